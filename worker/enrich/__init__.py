"""Learning what whoever is on call would ask next."""

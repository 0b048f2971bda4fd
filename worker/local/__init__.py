"""An embedded AWS and a story to run on it."""

"""A sweep: the identity remediations over all users of an account."""

"""Deciding what matters: Sigma rules and what a record is about."""

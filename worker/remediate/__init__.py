"""Mending: from a task to a verified, journaled change."""

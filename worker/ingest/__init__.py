"""Reading: from a queue message to the records that matter."""

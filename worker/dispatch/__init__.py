"""Telling others: findings to sinks, tasks to the task queue."""

"""What the worker tells the world: metrics, logs, health, OCSF."""

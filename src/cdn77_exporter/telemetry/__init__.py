"""Telemetry: a message becomes one JSON log line and updates the self-metrics that its row names."""

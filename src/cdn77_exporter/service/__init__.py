"""Runs the service: its wiring, the ownership of its state, and its upkeep."""

"""`check`: contacts everything that the configuration names."""

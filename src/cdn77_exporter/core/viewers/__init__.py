"""Distinct viewers in a rolling window."""

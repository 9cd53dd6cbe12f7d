"""Adapters to the outside: one vendor library each; they never import the flow."""

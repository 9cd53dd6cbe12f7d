"""The stages: each takes from one channel and puts into the next."""

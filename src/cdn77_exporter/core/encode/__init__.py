"""Writes samples down: an encoder takes frames of series and gives what a receiver, or a file, takes."""

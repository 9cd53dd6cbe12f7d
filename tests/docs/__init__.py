"""What the documentation says: every command, every query, and the figures that a test can measure."""

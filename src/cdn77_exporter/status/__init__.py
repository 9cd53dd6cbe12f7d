"""The status server, its page, and what the page shows."""

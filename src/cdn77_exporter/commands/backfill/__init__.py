"""`backfill`: turns old log files into OpenMetrics text."""

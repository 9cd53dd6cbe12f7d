"""`inspect`: says what is in local log files."""

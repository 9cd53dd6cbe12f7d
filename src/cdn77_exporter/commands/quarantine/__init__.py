"""`quarantine`: lists and releases files that were set aside."""

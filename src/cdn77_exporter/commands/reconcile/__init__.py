"""`reconcile`: compares log files with what the receiver holds."""

"""Benchmarks: each part measures side by side in one run and keeps its results; the report is written from those."""

"""CDN77 real-time logs in, exact Prometheus metrics out."""

__version__ = "0.3.0"

"""The demo: traffic as the CDN would write it, and a comparison with what the exporter counts."""

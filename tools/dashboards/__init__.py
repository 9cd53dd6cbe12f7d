"""Grafana's dashboards: tables of panels, and what writes them as JSON."""

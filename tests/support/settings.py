"""The least that the service has to be told: the required variables."""

from __future__ import annotations

LEAST = {
    "S3_ENDPOINT": "https://eu-1.cdn77-storage.com",
    "S3_BUCKET": "logs",
    "S3_PREFIX": "real-time-logs/all-logs",
    "S3_ACCESS_KEY": "AKIAEXAMPLEKEY",
    "S3_SECRET_KEY": "wJalrXUtnFEMIexample",
    "PROMETHEUS_URL": "https://prometheus.example.com/api/v1/write",
}

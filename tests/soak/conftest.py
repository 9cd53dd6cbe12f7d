"""The servers are those of the end-to-end tests."""

from __future__ import annotations

from tests.e2e.conftest import bucket, prometheus, s3_endpoint

__all__ = ["bucket", "prometheus", "s3_endpoint"]

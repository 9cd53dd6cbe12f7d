"""The service does without what it never uses of its libraries."""

from __future__ import annotations

import subprocess
import sys

import pytest

_LOOK = "import sys, cdn77_exporter.service.app; print(*sorted({'rich', 'pygments', 'geoip2'} & set(sys.modules)))"


@pytest.mark.slow
def test_the_service_imports_neither_a_terminal_nor_a_database_of_places() -> None:
    """rich, pygments and geoip2 are 4 MB; whoever imports them afterwards gets them all the same."""
    done = subprocess.run([sys.executable, "-c", _LOOK], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
    later = (
        "import cdn77_exporter.service.app, rich, geoip2.database, structlog; "
        "print(rich.__name__, structlog.BytesLogger)"
    )
    done = subprocess.run([sys.executable, "-c", later], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("rich <class 'structlog")

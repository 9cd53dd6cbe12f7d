"""structlog without its renderer for terminals, which imports rich and pygments: 3 MB in a service that writes JSON."""

from __future__ import annotations

import sys

_hidden = "rich" not in sys.modules
if _hidden:
    sys.modules["rich"] = None  # type: ignore[assignment]  # how Python is told that a module is not to be had
try:
    import structlog
finally:
    if _hidden:
        del sys.modules["rich"]

__all__ = ["structlog"]

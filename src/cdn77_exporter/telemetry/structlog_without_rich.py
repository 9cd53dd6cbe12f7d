"""Imports structlog without its renderer for terminals, which imports rich and pygments: 3 MB that no JSON line needs.

Every import of a part of structlog runs `structlog/__init__.py`, which imports that renderer; and the renderer imports
rich if it is installed, as it is for the commands. So rich is hidden during this one import.
"""

from __future__ import annotations

import sys

_hidden = "rich" not in sys.modules
if _hidden:
    sys.modules["rich"] = None  # type: ignore[assignment]  # an import of it now raises ImportError
try:
    import structlog
finally:
    if _hidden:
        del sys.modules["rich"]

__all__ = ["structlog"]

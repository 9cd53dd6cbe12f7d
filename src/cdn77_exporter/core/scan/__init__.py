"""The compiled scan of plain lines, where the package was built with it; without it, the decoder does all by itself.

What it takes of a file, why the result is the same, and its invariants are said at the head of `_scan.c`. It knows no
field, no label and no metric: what it reads is told when a scan begins, from the table of measures (see `layout`), so
nothing of it is generated, and another row in that table needs no change in C. `scanned` turns what it gives out into
columns, `addresses` hashes addresses.

`make sanitize` builds it with the address and undefined-behaviour sanitizers, and runs its tests, the corpus and the
fuzz on that.
"""

from __future__ import annotations

try:
    from cdn77_exporter.core.scan import _scan  # noqa: F401 - whether it is there
except ImportError:  # built without a compiler
    COMPILED = False
else:
    COMPILED = True

"""Real User-Agents by device type, and those that come near: what the built-in table of device rules must tell apart.

They stand in the text file of this name, by type, collected by hand; many are in the public test data of
matomo-org/device-detector (Tests/fixtures), which names their devices. A line that begins with `near` looks like the
type above it, and is of the one that it names.
"""

from __future__ import annotations

from pathlib import Path

_TABLE = Path(__file__).with_suffix(".txt")


def _read() -> tuple[tuple[str, str, bool], ...]:
    found: list[tuple[str, str, bool]] = []
    section = ""
    for line in filter(None, _TABLE.read_text().splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif line.startswith("near "):
            device, _, agent = line.removeprefix("near ").partition(": ")
            found.append((agent, device, True))
        else:
            found.append((line, section, False))
    return tuple(found)


#: User-Agent, its device type, and whether it is one that comes near another.
REAL_AGENTS = _read()

"""What tests have worker processes and machines do: decode, but die, stop or fail at a sign."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from cdn77_exporter.core.content import Content
from cdn77_exporter.core.decoded import Decoded, Failure
from cdn77_exporter.edge.decode_job import DecoderRules, decode_files

#: A body that ends whatever decodes it.
DEADLY = b"deadly"


def decode_or_die(
    rules: DecoderRules,
    bodies: Sequence[bytes | Failure],
    latest_ms: Sequence[int],
    oldest_ms: int,
    counted: Sequence[Content | None] = (),
) -> Decoded:
    """`decode_files`, but for a body on which the process dies."""
    if DEADLY in bodies:
        os.kill(os.getpid(), signal.SIGKILL)
    return decode_files(rules, bodies, latest_ms, oldest_ms, counted)


def decode_or_wait(
    meeting: str,
    rules: DecoderRules,
    bodies: Sequence[bytes | Failure],
    latest_ms: Sequence[int],
    oldest_ms: int,
    counted: Sequence[Content | None] = (),
) -> Decoded:
    """`decode_files`, but the first process of all writes its id to the file `meeting` and waits to be killed."""
    own = Path(f"{meeting}.{os.getpid()}")
    own.write_text(str(os.getpid()))
    try:
        os.link(own, meeting)  # one alone, and never half written
    except FileExistsError:
        return decode_files(rules, bodies, latest_ms, oldest_ms, counted)
    while True:
        signal.pause()


def boom(*_: object) -> Decoded:
    """A fault in the program."""
    raise ZeroDivisionError("a fault in the program")


def loaded_modules() -> list[str]:
    """What this process has imported."""
    return sorted(sys.modules)

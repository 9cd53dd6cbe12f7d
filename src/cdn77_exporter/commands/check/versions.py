"""Checks which version of remote write the receiver speaks; nothing that counts is written for it."""

from __future__ import annotations

from dataclasses import dataclass

from cdn77_exporter.commands.check.findings import Findings
from cdn77_exporter.core.encode.blocks import compress
from cdn77_exporter.core.encode.parts import NOTHING_2
from cdn77_exporter.core.encode.remote_write_1 import metadata_entries
from cdn77_exporter.core.encode.version import RemoteWriteVersion
from cdn77_exporter.core.errors import Misconfigured, Refused, Transient, UnsupportedVersion
from cdn77_exporter.edge.receiver import RemoteWriter
from cdn77_exporter.flow.negotiation import NEITHER, NEITHER_REMEDY, NO_2, NO_2_REMEDY
from cdn77_exporter.settings import Settings

VERSION = "remote write version"


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions that the receiver takes. `wanted`: as REMOTE_WRITE_VERSION says."""

    takes_1: bool
    takes_2: bool
    wanted: RemoteWriteVersion

    @property
    def used(self) -> int:
        """The version that the exporter would write in."""
        return 2 if self.takes_2 and (not self.takes_1 or self.wanted is not RemoteWriteVersion.ONE) else 1

    def tell(self, findings: Findings) -> None:
        """Record which one it would be."""
        if self.wanted is RemoteWriteVersion.TWO and not self.takes_2:
            findings.fail(VERSION, NO_2, NO_2_REMEDY)
        elif self.wanted is RemoteWriteVersion.ONE and not self.takes_1:
            findings.fail(VERSION, "the receiver takes 2.0 alone", "set REMOTE_WRITE_VERSION to auto")
        elif self.used == 2:
            findings.ok(VERSION, "2.0, and it tells how many samples were written")
        elif self.takes_2:
            findings.ok(VERSION, "1.0, as REMOTE_WRITE_VERSION says; 2.0 is understood too")
        else:
            findings.ok(VERSION, "1.0; 2.0 is not understood")


async def find_versions(writer: RemoteWriter, settings: Settings) -> Versions:
    """Write the descriptions of the metrics by 1.0, and a request of 2.0 that has nothing in it.

    Raises Refused when the receiver has something against the former, Misconfigured when it speaks neither version, and
    as any attempt does.
    """
    takes_1 = True
    try:
        await writer.write(compress(metadata_entries(settings.measures.rows)))
    except UnsupportedVersion as error:
        takes_1 = False
        reason = error.reason
    takes_2 = await understands_2(writer)
    if not takes_1 and not takes_2:
        raise Misconfigured(f"{reason}; {NEITHER}", NEITHER_REMEDY)
    return Versions(takes_1, takes_2, settings.remote_write_version)


async def understands_2(writer: RemoteWriter) -> bool:
    """Return whether the receiver says what it has written of a request of 2.0."""
    try:
        return await writer.write(NOTHING_2) is not None
    except (UnsupportedVersion, Refused):
        return False
    except Transient as error:
        if not error.answered:
            raise
        return False

"""The version of remote write that the receiver speaks: asked before anything depends on it, and proved by numbers.

A receiver of 1.0 may answer 204 to a request of 2.0 and store nothing. One of 2.0 reports how many samples it has
written. So an empty request of 2.0 is sent first. A receiver that reports a number understands 2.0; neither kind has
stored anything by then. From then on every answer must report the right number.
"""

from __future__ import annotations

from typing import NoReturn

from cdn77_exporter.core.encode.parts import NOTHING_2, in_version
from cdn77_exporter.core.encode.version import RemoteWriteVersion, Spoken, version_of
from cdn77_exporter.core.errors import Misconfigured, NotUnderstood, Refused, Transient, UnsupportedVersion
from cdn77_exporter.flow.ports import Common, Receives

#: Until a receiver of 1.0 is asked again, and one that failed to say.
_KEEP_SECONDS = 86_400.0
_NO_ANSWER_SECONDS = 60.0

NO_2 = "the receiver does not understand remote write 2.0: it does not say how many samples it has written"
NO_2_REMEDY = "set REMOTE_WRITE_VERSION to auto or 1, or PROMETHEUS_URL to a receiver of 2.0 (Prometheus 3)"
NEITHER = "it speaks neither version of remote write"
NEITHER_REMEDY = "PROMETHEUS_URL must lead to a receiver of remote write 1.0 or 2.0 (snappy and protobuf)"


class Negotiation:
    """Writes requests in the version that they have, or in the other one if the receiver does not take that.

    `spoken`: the version that is wanted; the one in force is set here.
    """

    def __init__(self, common: Common, receiver: Receives, spoken: Spoken) -> None:
        self._common = common
        self._receiver = receiver
        self._spoken = spoken
        self._takes_1 = True
        self._takes_2: bool | None = None  # None as long as it is not known
        self._proven = False  # whether it has told a right number of samples
        self._ask_from = 0.0  # when it is asked again, if it does not take 2.0
        self._told = False
        self._converted: tuple[bytes, bytes] = (b"", b"")  # a request, and the same in the other version

    async def write(self, body: bytes, samples: int) -> None:
        """Make one attempt of a request with so many samples; returns when the receiver has it.

        Raises Transient, Refused or Misconfigured; NotUnderstood when the next attempt will have the other version.
        """
        try:
            await self._write(body, samples)
        except Transient as error:
            if not error.answered and not isinstance(error, NotUnderstood):
                self._forget()
            raise

    async def _write(self, body: bytes, samples: int) -> None:
        if self._is_to_be_asked():
            await self._ask()
        if version_of(body) == 1 and self._takes_1:
            await self._write_1(body, samples)
        elif self._takes_2:
            await self._write_2(body, samples)
        elif self._spoken.wanted is RemoteWriteVersion.TWO:
            raise Misconfigured(NO_2, NO_2_REMEDY)
        else:
            await self._write_1(body, samples)

    # Finding out

    def _is_to_be_asked(self) -> bool:
        if self._spoken.wanted is RemoteWriteVersion.ONE or self._takes_2:
            return False
        return self._takes_2 is None or self._common.clock.monotonic() >= self._ask_from

    async def _ask(self) -> None:
        """Find out whether the receiver understands 2.0, with a request that has nothing in it."""
        try:
            understood = await self._receiver.write(NOTHING_2) is not None
        except (UnsupportedVersion, Refused):
            understood = False
        except Transient as error:
            if self._spoken.wanted is RemoteWriteVersion.TWO or not (error.answered or error.lost):
                raise _about_nothing(error) from error
            self._keep_1(_NO_ANSWER_SECONDS)  # it may fail on this alone
            return
        self._decide(takes=understood)

    def _keep_1(self, seconds: float) -> None:
        self._takes_2 = False
        self._ask_from = self._common.clock.monotonic() + seconds

    def _decide(self, *, takes: bool) -> None:
        """Note whether the receiver takes 2.0, and say what is in force."""
        auto = self._spoken.wanted is RemoteWriteVersion.AUTO
        self._proven = False
        if takes:
            self._takes_2 = True
        else:
            self._keep_1(_KEEP_SECONDS if auto else 0.0)
        in_force = 2 if takes or not auto else 1
        if in_force != self._spoken.version or not self._told:
            self._told = True
            self._spoken.version = in_force
            self._common.report("remote_write_version", version=in_force)

    def _forget(self) -> None:
        """Find out again: the receiver was away, and may be another one when it is back."""
        self._takes_1, self._takes_2, self._proven = True, None, False

    # Writing

    async def _write_1(self, body: bytes, samples: int) -> None:
        try:
            await self._receiver.write(self._in_version(body, 1))
        except UnsupportedVersion as error:
            if self._spoken.wanted is RemoteWriteVersion.ONE:
                raise
            if not self._takes_2:
                await self._ask()  # it did not take 2.0 either when it was asked, but may be another one by now
            if not self._takes_2:
                raise Misconfigured(f"{error.reason}; {NEITHER}", NEITHER_REMEDY) from error
            self._takes_1 = False
            await self._write_2(body, samples)

    async def _write_2(self, body: bytes, samples: int) -> None:
        try:
            written = await self._receiver.write(self._in_version(body, 2))
        except UnsupportedVersion as error:
            self._not_understood(error.reason, lost=False)
        except Refused as error:
            if self._proven or error.written is not None or self._spoken.wanted is RemoteWriteVersion.TWO:
                raise
            self._not_understood(str(error), lost=False)
        else:
            self._judge(written, samples)

    def _judge(self, written: int | None, samples: int) -> None:
        """Return if a request was written as the receiver's number says; raise what the number means if not."""
        if written == samples:
            self._proven = True
        elif self._proven and written is not None and written < samples:
            raise Refused(200, f"{written} of {samples} samples were written, as the receiver says", written)
        else:
            self._not_understood("the number of samples written is missing or wrong", lost=True)

    def _not_understood(self, why: str, *, lost: bool) -> NoReturn:
        self._decide(takes=False)
        if self._spoken.wanted is RemoteWriteVersion.TWO:
            raise Misconfigured(f"{NO_2} ({why})", NO_2_REMEDY)
        raise NotUnderstood(why, lost=lost)

    def _in_version(self, body: bytes, version: int) -> bytes:
        """Return a request in a version; that of an attempt before is not made again."""
        if version_of(body) == version:
            return body
        if self._converted[0] is not body:
            self._converted = (body, in_version(body, version))
        return self._converted[1]


def _about_nothing(error: Transient) -> Transient:
    """Return why a question failed. It had no samples, so none of them can be stored, whatever became of it."""
    return Transient(error.reason, error.retry_after, answered=error.answered, remedy=error.remedy)

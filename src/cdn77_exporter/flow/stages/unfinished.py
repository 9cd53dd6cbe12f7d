"""Files that cannot be fetched or decoded: what is said of them, and whether a later poll may try again."""

from __future__ import annotations

from dataclasses import dataclass

from cdn77_exporter.core.errors import FileGone, Misconfigured, Transient, Unreadable
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.core.reasons import FINAL_REASONS, FORMAT_REASONS, OF_BUCKET_REASONS, UNREADABLE_REASONS
from cdn77_exporter.flow.in_flight import At, Attempts, InFlight
from cdn77_exporter.flow.ports import Common, SetsAside

#: What can keep a file from being counted.
Hindrance = FileGone | Unreadable | Misconfigured | Transient
#: Polls at which a file is tried before it is set aside; more when the bucket says that it will pass.
MAX_ATTEMPTS = 3
MAX_ATTEMPTS_PASSING = 30
_FEW = 2


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Ends the life of files that cannot be counted now; none of them is ever deleted."""

    common: Common
    in_flight: InFlight
    ledger: SetsAside

    async def end(self, file: LogFile, error: Hindrance) -> None:
        """Report why the file is not counted, and set it aside or leave it to a later poll."""
        attempts = self.in_flight.attempt(file)
        reason, words = _told(error)
        if isinstance(error, Unreadable):
            self.in_flight.move(file, At.UNREADABLE, reason=reason, attempt=attempts.count, detail=words or None)
        if _is_enough(error, attempts) and await self._set_aside(file, reason, words):
            return
        if isinstance(error, FileGone):
            self.in_flight.move(file, At.GONE)
        elif isinstance(error, Unreadable):
            self.in_flight.move(file, At.LEFT)
        else:
            self.in_flight.move(file, At.LEFT, error=words)
        refusal = error if isinstance(error, Misconfigured) else None
        if self._is_general(attempts) and (refusal or not attempts.others_succeed):
            why, remedy = (str(refusal), refusal.remedy) if refusal else (_meant(reason, words), "")
            self.common.problems.found("reading", f"no log file can be read: {why}; look at {file.key}", remedy)

    def _is_general(self, attempts: Attempts) -> bool:
        """Tell whether it is more than the fault of a file or two."""
        alone = not attempts.others_succeed and (attempts.count >= MAX_ATTEMPTS or not self.in_flight.decoded)
        return alone or attempts.failing > _FEW

    async def _set_aside(self, file: LogFile, reason: str, words: str) -> bool:
        try:
            await self.ledger.set_aside(file, reason, words)
        except Transient:
            return False  # it will be tried once more, and set aside then
        self.in_flight.move(file, At.SET_ASIDE, reason=reason, detail=words or None)
        if reason in FORMAT_REASONS:
            self.common.problems.found("format", format_words(reason, words))
        return True


def format_words(reason: str, detail: str) -> str:
    """Return what is wrong with files that are no logs, and what to do."""
    meaning = f"files are set aside and not deleted: {UNREADABLE_REASONS[reason]}"
    return f"{meaning} ({detail})" if detail else meaning


def _told(error: Hindrance) -> tuple[str, str]:
    """Return the reason for which a file is set aside, and what is said of it."""
    if isinstance(error, Unreadable):
        return error.reason, error.detail
    if isinstance(error, Misconfigured):
        return "refused", f"{error}; {error.remedy}"
    return "gone" if isinstance(error, FileGone) else "unavailable", str(error)


def _meant(reason: str, words: str) -> str:
    meaning = UNREADABLE_REASONS.get(reason, reason)
    return f"{meaning} ({words})" if words else meaning


def _is_enough(error: Hindrance, attempts: Attempts) -> bool:
    """Tell whether it is this file alone that cannot be had, and will stay so."""
    if isinstance(error, Unreadable) and error.reason in FINAL_REASONS:
        return True
    if isinstance(error, FileGone) or (isinstance(error, Unreadable) and error.reason in OF_BUCKET_REASONS):
        return attempts.count >= MAX_ATTEMPTS and attempts.others_succeed
    if isinstance(error, Unreadable):
        return attempts.count >= MAX_ATTEMPTS
    if isinstance(error, Misconfigured):
        return error.of_object and attempts.count >= MAX_ATTEMPTS and attempts.others_succeed
    return attempts.count >= MAX_ATTEMPTS_PASSING and attempts.others_succeed

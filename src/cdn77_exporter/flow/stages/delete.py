"""Delete: remove the files of which the receiver has every tick."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from cdn77_exporter.core.errors import Misconfigured, Transient
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.core.phrases import number
from cdn77_exporter.flow.channel import Channel, Closed
from cdn77_exporter.flow.ports import Common, Deletes, Ledger
from cdn77_exporter.flow.stages.push import Receipt

_DELETE_AT_ONCE = 1000
_TOLD_AT_ONCE = 20  # of their log lines
_IN_A_ROW = 16  # failures while files are taken apart, after which the bucket is at fault
_ALONE_AT_ONCE = 8  # of those that failed alone before

Identity = tuple[str, str]


@dataclass(slots=True)
class Deleter:
    """Deletes files because of receipts; with `keep_files` it only notes in the ledger that they are done."""

    common: Common
    bucket: Deletes
    ledger: Ledger
    keep_files: bool
    # Files at the front that could not be deleted and must not hold up those behind them.
    _skip: int = field(default=0, init=False)
    _failed: bool = field(default=False, init=False)  # the last request as a whole
    _alone: dict[Identity, str] = field(default_factory=dict, init=False)  # files that failed alone, and why

    async def run(self, inbox: Channel[Receipt]) -> None:
        """Delete for the newest receipt all that it covers; it covers what those before it do."""
        while True:
            try:
                receipts = await inbox.take(inbox.capacity)
            except Closed:
                return
            while await self._delete_some(max(receipt.through_tick for receipt in receipts)):
                pass

    async def _delete_some(self, through_tick: int) -> bool:
        """Delete a part; return whether there may be more."""
        counted = await self.ledger.deletable(through_tick, _DELETE_AT_ONCE, self._skip)
        if not counted:
            self._skip = 0
            return False
        files = [LogFile(file.key, file.etag, file.size, file.modified_ms) for file in counted]
        try:
            failures, deleted = await self._delete(files)
        except (Transient, Misconfigured) as error:
            self.common.report("delete_failed", count=len(files), error=f"{error}; {error.remedy}")
            if isinstance(error, Misconfigured) or self._failed:
                self.common.problems.found("deletion", _not_deleted(len(files), error), error.remedy)
            self._failed = True
            return False
        self._failed = False
        if failures:
            reason = next(iter(failures.values()))
            self.common.report("delete_failed", count=len(failures), error=reason)
            self.common.problems.found("deletion", _not_deleted(len(failures), reason))
        elif not self._skip:
            self.common.problems.solved("deletion")
        await self._tell(deleted)
        full = len(files) == _DELETE_AT_ONCE
        self._skip = self._skip + len(failures) if full else 0
        return full and not failures

    async def _delete_apart(self, files: list[LogFile]) -> dict[Identity, str]:
        """Delete files; what fails as a whole for the second time is split until the files at fault stand alone."""
        known = {file.identity: file for file in files if file.identity in self._alone}
        self._alone = {identity: why for identity, why in self._alone.items() if identity in known}
        apart, in_a_row = self._failed or bool(known), 0
        failures: dict[Identity, str] = {}
        left = [[file for file in files if file.identity not in known]]
        while left:
            part = left.pop()
            try:
                failures |= await self.bucket.delete(part) if part else {}
                in_a_row = 0
            except (Transient, Misconfigured) as error:
                in_a_row += 1
                if not apart or in_a_row >= _IN_A_ROW or self.common.stop.is_set():
                    raise
                if len(part) > 1:
                    middle = len(part) // 2
                    left += [part[middle:], part[:middle]]
                else:
                    self._alone[part[0].identity] = f"{error}; {error.remedy}"
        for identity in [one for one in self._alone if one in known][:_ALONE_AT_ONCE]:
            del self._alone[identity]
            try:
                failures |= await self.bucket.delete([known[identity]])
            except (Transient, Misconfigured) as error:
                self._alone[identity] = f"{error}; {error.remedy}"  # behind those that are tried next
        return failures | self._alone

    async def _delete(self, files: list[LogFile]) -> tuple[dict[tuple[str, str], str], list[str]]:
        """Delete files and note it in the ledger; return why some could not be deleted, and the keys of the others."""
        failures = {} if self.keep_files else await self._delete_apart(files)
        changed = [identity for identity, reason in failures.items() if reason == "changed"]
        for identity in changed:
            self.common.report("file_changed", key=identity[0])
            del failures[identity]  # the new content is another file; this one is no more
        done = [file.identity for file in files if file.identity not in failures]
        await self.ledger.mark_deleted(done)
        return failures, [] if self.keep_files else [key for key, etag in done if (key, etag) not in changed]

    async def _tell(self, keys: Sequence[str]) -> None:
        """Say what was deleted; other tasks run in between."""
        for told, key in enumerate(keys, start=1):
            self.common.report("file_deleted", key=key)
            if told % _TOLD_AT_ONCE == 0:
                await asyncio.sleep(0)
        if keys:
            self.common.report("files_deleted", count=len(keys))


def _not_deleted(count: int, why: object) -> str:
    return f"{number(count, 'counted file')} cannot be deleted ({why})"

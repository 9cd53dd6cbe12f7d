"""Moves files that were set aside out of the log folders, with the reason beside them, and back when asked to.

A file is copied, the copy verified, the reason written, the original deleted, and only then does the ledger forget it.
Each step can be done again without harm, so a kill between any two of them costs nothing: the next sweep goes on from
what it finds in the bucket.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from cdn77_exporter.core.changes import AsideFile
from cdn77_exporter.core.errors import FileGone, Misconfigured, Transient
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.core.reasons import STAYING_REASONS, UNREADABLE_REASONS
from cdn77_exporter.flow.ports import Clock, Problems, Report

#: What the key of a reason has behind the key of its file.
REASON_SUFFIX = ".reason.json"
#: Files moved in one sweep; the rest waits for the next, so that counting goes on.
_AT_ONCE = 20
_COMPARED_BYTES = 64 * 1024 * 1024  # larger files are compared by their ETags alone


class Objects(Protocol):
    """The bucket, as far as moving within it needs it."""

    def list_files(self, prefix: str) -> AsyncIterator[list[LogFile]]: ...
    async def get(self, key: str) -> tuple[bytes, str] | None: ...
    async def put(self, key: str, body: bytes) -> str: ...
    async def copy(self, source_key: str, target_key: str) -> None: ...
    async def delete(self, files: Sequence[LogFile]) -> dict[tuple[str, str], str]: ...


class SetAside(Protocol):
    """The ledger of files that cannot be read."""

    async def aside(self) -> list[AsideFile]: ...
    async def release(self, key: str) -> None: ...


async def look(bucket: Objects, key: str) -> LogFile | None:
    """Return the object of exactly this key, as a listing names it."""
    async for page in bucket.list_files(key):
        for file in page:
            return file if file.key == key else None
    return None


async def same(bucket: Objects, one: LogFile, other: LogFile) -> bool:
    """Compare two objects; true when they hold the same bytes.

    ETags of uploads in parts and of encrypted objects differ between an object and its copy; then the bytes decide.
    """
    if one.size != other.size:
        return False
    if one.etag == other.etag:
        return True
    if one.size > _COMPARED_BYTES:
        return False
    first, second = await bucket.get(one.key), await bucket.get(other.key)
    return first is not None and second is not None and first[0] == second[0]


async def copy_verified(bucket: Objects, source: LogFile, target_key: str) -> LogFile | None:
    """Return the verified copy, made unless it is there; None when what lies there is not the source's content."""
    found = await look(bucket, target_key)
    if found is None or not await same(bucket, source, found):
        await bucket.copy(source.key, target_key)
        found = await look(bucket, target_key)
    return found if found is not None and await same(bucket, source, found) else None


@dataclass(slots=True)
class Quarantine:
    """Moves what the ledger has set aside to `prefix`, a folder outside of the log folders."""

    bucket: Objects
    ledger: SetAside
    clock: Clock
    report: Report
    problems: Problems
    prefix: str
    _left: set[tuple[str, str]] = field(default_factory=set)  # cannot be moved, and need not be tried at every poll

    async def sweep(self) -> None:
        """Move some of what is set aside; what does not succeed now is tried at a later poll."""
        aside = [row for row in await self.ledger.aside() if row.reason not in STAYING_REASONS]
        rows = [row for row in aside if (row.key, row.etag) not in self._left]
        moved_all = True
        for row in rows[:_AT_ONCE]:
            try:
                moved_all = await self._move(row) and moved_all
            except FileGone:
                continue  # somebody else has removed it just now; the next sweep sees that
            except (Transient, Misconfigured) as error:
                self._fail(row.key, f"{error}; {error.remedy}")
                return
        if moved_all:
            self.problems.solved("quarantine")

    def _fail(self, key: str, words: str) -> None:
        self.report("quarantine_failed", key=key, error=words)
        self.problems.found("quarantine", f"a file that was set aside cannot be moved: {words}")

    async def _move(self, row: AsideFile) -> bool:
        key, reason = row.key, row.reason
        source = await look(self.bucket, key)
        if source is None or source.etag != row.etag:
            # Moved before a kill, or removed, or replaced: the ledger need not keep it out any more.
            await self.ledger.release(key)
            return True
        target = await self._target(source)
        if await copy_verified(self.bucket, source, target) is None:
            self._left.add(source.identity)
            self._fail(key, f"the copy at {target} is not what was copied; move the file by hand")
            return False
        await self.bucket.put(target + REASON_SUFFIX, self._reason(source, row))
        failures = await self.bucket.delete([source])
        refused = failures.get(source.identity, "changed")
        if refused != "changed":  # a file that was replaced meanwhile is another one, and stays
            self._fail(key, f"the original cannot be deleted ({refused}); give the key the right to delete")
            return False
        await self.ledger.release(key)
        self.report("file_quarantined", key=key, target=target, reason=reason)
        return True

    async def _target(self, source: LogFile) -> str:
        """Return the file's own key under the prefix, with its ETag when another file of that key lies there."""
        target = f"{self.prefix}/{source.key}"
        found = await look(self.bucket, target)
        if found is None or await same(self.bucket, source, found):
            return target
        return f"{target}~{source.etag}"

    def _reason(self, source: LogFile, row: AsideFile) -> bytes:
        found = {
            "key": source.key,
            "etag": source.etag,
            "size": source.size,
            "modified": instant(source.modified_ms),
            "reason": row.reason,
            "meaning": UNREADABLE_REASONS.get(row.reason, ""),
            "detail": row.detail,
            "moved": instant(self.clock.now_ms()),
        }
        return json.dumps(found, indent=2).encode() + b"\n"


def instant(at_ms: int) -> str:
    """Format an instant (Unix milliseconds) as people and programs read it, to the second."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

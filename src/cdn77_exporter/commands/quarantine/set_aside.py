"""The files that were set aside, as the bucket and the state know them, and their way back to the log files."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cdn77_exporter.clients import open_bucket
from cdn77_exporter.commands.output import instant
from cdn77_exporter.core.errors import Conflict, FileGone
from cdn77_exporter.core.files import MAX_AGE_MS, LogFile, hour_of, hour_prefixes
from cdn77_exporter.core.visible import visible
from cdn77_exporter.edge.s3 import S3Bucket
from cdn77_exporter.edge.state import BucketState
from cdn77_exporter.edge.state.look import Access, look_at_state
from cdn77_exporter.flow.quarantine import REASON_SUFFIX, copy_verified, look
from cdn77_exporter.settings import InBucket, Off, Settings

_UNKNOWN = "unknown"
_GONE = "it has changed or gone just now"


@dataclass(frozen=True, slots=True)
class Kept:
    """A file that was set aside: the key that it had, and where it is now."""

    key: str
    at: str
    reason: str
    size: int
    since: str  # when it was moved, or written


@dataclass(frozen=True, slots=True)
class Released:
    """The outcome of a release: the key under which the file is tried again, or the reason why it is not."""

    key: str
    to: str = ""
    done: bool = True
    words: str = ""


async def list_kept(settings: Settings, seconds: float) -> tuple[list[Kept], str]:
    """Return all files known to be set aside, and a remark about those that may not be known."""
    async with open_bucket(settings, seconds=seconds) as bucket:
        return await _kept(bucket, settings, seconds)


async def release_keys(settings: Settings, keys: Sequence[str], seconds: float) -> list[Released]:
    """Release files by the key that they had, or have, as it is or as `list` prints it; all without any key."""
    async with open_bucket(settings, seconds=seconds) as bucket:
        kept, note = await _kept(bucket, settings, seconds)
        if not keys:
            return [await _release(bucket, settings, one) for one in kept]
        found = []
        for key in keys:
            here = [one for one in kept if key in (one.key, one.at, visible(one.key), visible(one.at))]
            if here:
                found += [await _release(bucket, settings, one) for one in here]
            elif (file := await look(bucket, key)) is not None and _is_log(settings, key):
                # A running exporter keeps to itself what it has set aside; whoever names a file has seen it there.
                found.append(await _release_in_place(bucket, settings, file))
            else:
                found.append(Released(key, done=False, words=f"no such file is set aside. {note}".strip()))
        return found


def _is_log(settings: Settings, key: str) -> bool:
    return key.startswith(f"{settings.s3_prefix}/" if settings.s3_prefix else "")


async def _kept(bucket: S3Bucket, settings: Settings, seconds: float) -> tuple[list[Kept], str]:
    moved = await _moved(bucket, settings) if settings.quarantine_prefix else []
    in_place, note = await _in_place(settings, seconds)
    return moved + in_place, note


# Under QUARANTINE_PREFIX


async def _moved(bucket: S3Bucket, settings: Settings) -> list[Kept]:
    prefix = f"{settings.quarantine_prefix}/"
    files = [file async for page in bucket.list_files(prefix) for file in page]
    there = {file.key for file in files}
    turns = asyncio.Semaphore(settings.download_concurrency)

    async def read(file: LogFile) -> Kept:
        async with turns:
            reason = await _reason(bucket, file.key) if file.key + REASON_SUFFIX in there else {}
        return Kept(
            str(reason.get("key") or file.key.removeprefix(prefix)),
            file.key,
            str(reason.get("reason") or _UNKNOWN),
            file.size,
            str(reason.get("moved") or instant(file.modified_ms / 1000)),
        )

    return await asyncio.gather(*(read(file) for file in files if not file.key.endswith(REASON_SUFFIX)))


async def _reason(bucket: S3Bucket, key: str) -> dict[str, Any]:
    found = await bucket.get(key + REASON_SUFFIX)
    with suppress(ValueError):
        reason = json.loads(found[0]) if found else {}
        if isinstance(reason, dict):
            return reason
    return {}


async def _release(bucket: S3Bucket, settings: Settings, one: Kept) -> Released:
    file = await look(bucket, one.at)
    if file is None:
        return Released(one.key, done=False, words=_GONE)
    if one.at == one.key:
        return await _release_in_place(bucket, settings, file)
    return await _release_moved(bucket, settings, one, file)


async def _release_moved(bucket: S3Bucket, settings: Settings, one: Kept, file: LogFile) -> Released:
    reason = await _reason(bucket, one.at)
    target = str(reason.get("released_to") or _way_back(settings, one.key))
    if not _is_listed(settings, target):
        words = (
            f"an earlier release to {target} was cut short, and it may have been counted there; "
            f"delete {one.at}{REASON_SUFFIX} if it was not, and release it again"
        )
        return Released(one.key, done=False, words=words)
    occupied = await look(bucket, target)
    if occupied is not None and (occupied.size, occupied.etag) != (file.size, file.etag):
        return Released(one.key, done=False, words=f"another file has the key {target}; let it be counted first")
    # Written down first: a release that is cut short and done again must not lead to another key, or it counts twice.
    note = json.dumps({**reason, "key": one.key, "released_to": target}, indent=2).encode() + b"\n"
    await bucket.put(one.at + REASON_SUFFIX, note)
    with suppress(FileGone):  # counted and deleted already
        if await copy_verified(bucket, file, target) is None and await look(bucket, target) is not None:
            return Released(one.key, done=False, words=f"what lies at {target} now is not what was copied")
    await bucket.remove(one.at)
    await bucket.remove(one.at + REASON_SUFFIX)
    return Released(one.key, target)


def _way_back(settings: Settings, key: str) -> str:
    """Return the file's own key if its folder is still listed, else one in the folder of the present hour."""
    if _is_listed(settings, key):
        return key
    now_ms = int(time.time() * 1000)
    return hour_prefixes(settings.s3_prefix, now_ms - 300_000, 0)[0] + key.rpartition("/")[2]


def _is_listed(settings: Settings, key: str) -> bool:
    prefixes = hour_prefixes(settings.s3_prefix, int(time.time() * 1000), settings.lookback_hours)
    return any(key.startswith(prefix) for prefix in prefixes)


# In their place


async def _in_place(settings: Settings, seconds: float) -> tuple[list[Kept], str]:
    """Return what the state has set aside and left in place, and why that may not be all."""
    place = settings.state_path
    if isinstance(place, Off):
        return [], "With STATE_PATH=off nothing remembers files that were left in their place."
    if isinstance(place, InBucket):
        return await _in_bucket_state(settings, place, seconds), ""
    look_at = await asyncio.to_thread(look_at_state, place.path)
    if look_at.access is Access.IN_USE:
        return [], "A running exporter holds the state: files that it left in their place are on its status page."
    if look_at.access is Access.UNREADABLE:
        return [], f"The state {place} cannot be looked at ({look_at.words})."
    return [Kept(one.key, one.key, one.reason, one.size, instant(one.modified_ms / 1000)) for one in look_at.aside], ""


async def _in_bucket_state(settings: Settings, place: InBucket, seconds: float) -> list[Kept]:
    async with open_bucket(settings, place.bucket, seconds=seconds) as bucket:
        keys = [key async for page in bucket.list_keys(f"{place.prefix}/") for key in page]
        if not keys:  # opening it would make one
            return []
        state = await BucketState.open(bucket, place.prefix)
        try:
            return [
                Kept(one.key, one.key, one.reason, one.size, instant(one.modified_ms)) for one in await state.aside()
            ]
        finally:
            state.close()


async def _release_in_place(bucket: S3Bucket, settings: Settings, file: LogFile) -> Released:
    """Write the file anew with the same bytes: its later time tells the exporter to try it once more.

    A poll sees that, or in a folder that is polled no longer the next sweep.
    """
    hour_ms = hour_of(settings.s3_prefix, file.key)
    if hour_ms is None or hour_ms < time.time() * 1000 - MAX_AGE_MS:
        words = "it is in no hour folder of the last seven days; what is older is not counted"
        return Released(file.key, done=False, words=words)
    found = await bucket.get(file.key)
    if found is None:
        return Released(file.key, done=False, words=_GONE)
    try:
        await bucket.put(file.key, found[0], if_match=found[1])
    except Conflict:
        return Released(file.key, done=False, words=_GONE)
    return Released(file.key, file.key)

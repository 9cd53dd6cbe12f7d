"""Checks the bucket: the rights of the key, the clock, and the age of the newest log file."""

from __future__ import annotations

import re
import time

from cdn77_exporter.commands.check.findings import Findings
from cdn77_exporter.commands.output import size
from cdn77_exporter.core.clocks import NEAR_MS
from cdn77_exporter.core.decoded import FileStats
from cdn77_exporter.core.errors import Unreadable
from cdn77_exporter.core.files import MAX_AGE_MS, LogFile, hour_prefixes
from cdn77_exporter.core.phrases import number, span
from cdn77_exporter.core.reasons import UNREADABLE_REASONS
from cdn77_exporter.edge.s3 import S3Bucket
from cdn77_exporter.flow.lease import lease_prefix
from cdn77_exporter.settings import Settings

LIST, READ, DELETE, WRITE, LEASE = "bucket: list", "bucket: read", "bucket: delete", "bucket: write", "other exporters"
CLOCK, NEWEST = "clock", "newest log file"

#: No log file has this name, so that deleting it shows the right without harm.
_PROBE = ".cdn77-exporter-check"
_FRESH_SECONDS = 600
_HOUR_FOLDER = re.compile(r"(?:(.*)/)?\d{8}/\d{2}/")


async def check_bucket(bucket: S3Bucket, settings: Settings, findings: Findings) -> None:
    """Ask the bucket everything; nothing in it is changed."""
    newest: LogFile | None = None
    proxy = settings.proxies.shown_for(settings.s3_endpoint)
    async with findings.contact(LIST, through=proxy):
        newest, seen = await _newest(bucket, settings)
        await _say_listed(bucket, settings, findings, seen)
    if findings.all[-1].status != "ok" and not findings.has(NEWEST):
        for check in (READ, DELETE, WRITE):
            findings.skip(check, "not tried, since the bucket cannot be listed")
        return
    _compare_clock(bucket, findings)
    await _read(bucket, settings, findings, newest)
    await _delete(bucket, settings, findings)
    await _write(bucket, settings, findings)
    await _lease(bucket, settings, findings, newest)


async def _newest(bucket: S3Bucket, settings: Settings) -> tuple[LogFile | None, int]:
    """Return the newest file of the newest hour folder that has any, and the number of files in that folder."""
    now_ms = int(time.time() * 1000)
    for prefix in reversed(hour_prefixes(settings.s3_prefix, now_ms, settings.lookback_hours)):
        files = [file async for page in bucket.list_files(prefix) for file in settings.log_names.take(page)[0]]
        if files:
            return max(files, key=lambda file: file.modified_ms), len(files)
    return None, 0


async def _say_listed(bucket: S3Bucket, settings: Settings, findings: Findings, seen: int) -> None:
    if seen:
        findings.ok(LIST, f"allowed{_through(settings)}; {number(seen, 'file')} in the newest hour folder")
        return
    anything = await _first(bucket, f"{settings.s3_prefix}/" if settings.s3_prefix else "")
    if anything:
        findings.ok(
            LIST, f"allowed{_through(settings)}; no file of the last {settings.lookback_hours:g} h, but older ones"
        )
        return
    findings.ok(LIST, f"allowed{_through(settings)}")
    other = await _other_prefix(bucket, settings.quarantine_prefix)
    if other is not None and other != settings.s3_prefix:
        remedy = f"set S3_PREFIX to `{other or '/'}`, where there are hour folders"
        findings.fail(NEWEST, f"there is nothing under `{settings.s3_prefix or '/'}`", remedy)


async def _first(bucket: S3Bucket, prefix: str) -> list[LogFile]:
    async for page in bucket.list_files(prefix):
        return page
    return []


async def _other_prefix(bucket: S3Bucket, quarantine: str | None) -> str | None:
    """Return a folder of the bucket that has hour folders, if the first keys show one, but not the quarantine."""
    for file in await _first(bucket, ""):
        found = _HOUR_FOLDER.match(file.key)
        if found and not (quarantine and file.key.startswith(quarantine)):
            return found[1] or ""
    return None


def _compare_clock(bucket: S3Bucket, findings: Findings) -> None:
    server_ms = bucket.take_server_ms()
    if server_ms is None:
        findings.skip(CLOCK, "the server does not tell its time")
        return
    skew = time.time() - server_ms / 1000
    text = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the bucket's"
    if abs(skew) * 1000 > NEAR_MS:
        findings.fail(
            CLOCK,
            text,
            "set this machine's clock (NTP), or tell those who run the bucket",
        )
    elif abs(skew) > 5:
        findings.warn(CLOCK, text, "set this machine's clock (NTP)")
    else:
        findings.ok(CLOCK, "agrees with the bucket's")


async def _read(bucket: S3Bucket, settings: Settings, findings: Findings, newest: LogFile | None) -> None:
    async with findings.contact(READ):
        if newest is None or newest.size > settings.max_object_bytes:
            await bucket.get(f"{_folder(settings)}{_PROBE}")  # a server without the right would say so
            findings.ok(READ, "allowed")
            return
        body = await bucket.fetch(newest)
        try:
            stats = _decode(settings, body)
        except Unreadable as error:
            words = UNREADABLE_REASONS.get(error.reason, error.reason)
            findings.warn(
                READ, f"allowed, but the newest file is unreadable: {words}", f"run `inspect` on {newest.key}"
            )
            return
        _judge_content(findings, newest, stats)


def _decode(settings: Settings, body: bytes) -> FileStats:
    now_ms = int(time.time() * 1000)
    stats, _ = settings.decoder_rules.decoder().decode(body, latest_ms=now_ms, oldest_ms=now_ms - MAX_AGE_MS)
    return stats


def _judge_content(findings: Findings, newest: LogFile, stats: FileStats) -> None:
    lines, events = number(stats.lines, "line"), number(stats.events, "event")
    text = f"the newest file has {size(newest.size)}, {lines}, {events}"
    if stats.events < stats.lines * 0.9:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(stats.rejects.items()))
        remedy = f"run `inspect` on {newest.key}; STREAM_PATTERN decides which paths have a stream"
        findings.warn(READ, f"{text}; rejects: {reasons}", remedy)
    elif stats.ignored:
        fields = ", ".join(f"{name} {count:,}" for name, count in sorted(stats.ignored.items()))
        findings.warn(READ, f"{text}; malformed values, ignored: {fields}", f"look at these fields in {newest.key}")
    else:
        findings.ok(READ, text)


async def _delete(bucket: S3Bucket, settings: Settings, findings: Findings) -> None:
    if settings.keep_files:
        findings.skip(DELETE, "not needed: KEEP_FILES is on")
        return
    async with findings.contact(DELETE, otherwise="files would be counted and stay"):
        await bucket.remove(f"{_folder(settings)}{_PROBE}")
        findings.ok(DELETE, "allowed (tried on a name that no file has)")
    if findings.all[-1].status != "ok":
        found = findings.all.pop()
        findings.fail(DELETE, found.found, f"{found.remedy}; or set KEEP_FILES=true")


async def _write(bucket: S3Bucket, settings: Settings, findings: Findings) -> None:
    """Begin and end an upload where the exporter writes, so that no object is made."""
    needs = {lease_prefix(settings.s3_prefix).removesuffix("lease/"): "another exporter on this bucket is not noticed"}
    if settings.quarantine_prefix and not settings.keep_files:
        needs[f"{settings.quarantine_prefix}/"] = "needed for QUARANTINE_PREFIX"
    for prefix, use in needs.items():
        async with findings.contact(WRITE, needed=prefix.startswith(f"{settings.quarantine_prefix}/"), otherwise=use):
            key = f"{prefix}{_PROBE}"
            await bucket.abort_upload(key, await bucket.begin_upload(key))
            continue
        return
    findings.ok(WRITE, "allowed under " + " and ".join(f"`{prefix}`" for prefix in needs))


async def _lease(bucket: S3Bucket, settings: Settings, findings: Findings, newest: LogFile | None) -> None:
    prefix = lease_prefix(settings.s3_prefix)
    held: list[str] = []
    async with findings.contact(LEASE, needed=False, otherwise="another exporter on this bucket is not noticed"):
        held = sorted({key.removeprefix(prefix) for key, _ in await bucket.list_uploads(prefix)})
        findings.ok(LEASE, f"the lease is held by {', '.join(held)}" if held else "none holds the lease")
    if not findings.has(NEWEST):
        _judge_age(settings, findings, newest, working=bool(held))


def _judge_age(settings: Settings, findings: Findings, newest: LogFile | None, *, working: bool) -> None:
    if newest is None:
        text = f"none of the last {settings.lookback_hours:g} h"
        if working:
            findings.ok(NEWEST, f"{text} is left; an exporter counts and deletes them")
        else:
            findings.warn(NEWEST, text, "check in the CDN77 panel that logs go to this bucket, and check S3_PREFIX")
        return
    age = time.time() - newest.modified_ms / 1000
    text = f"{span(age)} old: {newest.key}"
    if age > _FRESH_SECONDS:
        findings.warn(NEWEST, text, "check in the CDN77 panel that logs are still written (a file comes every 30 s)")
    else:
        findings.ok(NEWEST, text)


def _folder(settings: Settings) -> str:
    return f"{settings.s3_prefix}/" if settings.s3_prefix else ""


def _through(settings: Settings) -> str:
    proxy = settings.proxies.shown_for(settings.s3_endpoint)
    return f" through {proxy}" if proxy else ""

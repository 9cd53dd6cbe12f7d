"""Checks this machine: the GeoIP database and the state."""

from __future__ import annotations

import http.client
import re
import time
from contextlib import suppress
from pathlib import Path

from cdn77_exporter.commands.check.findings import Findings
from cdn77_exporter.commands.output import size
from cdn77_exporter.core.phrases import span
from cdn77_exporter.edge.geoip import GeoIp
from cdn77_exporter.edge.s3 import S3Bucket
from cdn77_exporter.edge.state.look import LITTLE_ROOM_BYTES, Access, StateLook, look_at_state
from cdn77_exporter.settings import InBucket, Settings, host_to_ask

GEOIP, STATE = "GeoIP database", "state"

_OLD_SECONDS = 31 * 86_400
_WATERMARK = re.compile(r"^cdn77_exporter_watermark_timestamp_seconds (\S+)$", re.MULTILINE)
_WRITABLE = "make the file and its folder writable for this user, or set STATE_PATH to another place"


def check_geoip(settings: Settings, findings: Findings) -> None:
    """Check that the database can be read, and its age."""
    path = settings.geoip_db_path
    if path is None:
        findings.skip(GEOIP, "GEOIP_DB_PATH is not set: no regions, and countries only as the log names them")
        return
    database = GeoIp(path)
    if not database.available:
        findings.fail(GEOIP, f"{path}: {database.fault}", "put a MaxMind City database (.mmdb) there")
        return
    age = time.time() - database.build_epoch
    text = f"{database.kind}, built {span(age)} ago"
    if "City" not in database.kind and "Enterprise" not in database.kind:
        findings.warn(GEOIP, text, "take a City database: this one knows no regions")
    elif age > _OLD_SECONDS:
        findings.warn(GEOIP, text, "renew it; the exporter opens a new file without a restart")
    else:
        findings.ok(GEOIP, text)


def check_state_file(settings: Settings, path: Path, findings: Findings) -> None:
    """Check that the state can be written, and its last tick; a running exporter is not disturbed."""
    try:
        look = look_at_state(path)
    except OSError as error:
        findings.fail(STATE, f"{path}: {error.strerror}", _WRITABLE)
        return
    if look.access is Access.IN_USE:
        findings.ok(STATE, f"{path}: in use by a running exporter{_running(settings)}")
    elif not look.writable:
        findings.fail(STATE, f"{path}: this user may not write it", _WRITABLE)
    elif look.access is Access.MISSING:
        findings.ok(STATE, f"{path}: not there yet; it will be made, with a fresh start")
    elif look.access is Access.UNREADABLE:
        remedy = "start the exporter: it repairs what a kill has left, or says what to do"
        findings.warn(STATE, f"{path}: cannot be looked at ({look.words})", remedy)
    else:
        findings.ok(STATE, f"{path}: writable, {_last_tick(look.emitted)}")
    _judge_room(look, findings)


def _judge_room(look: StateLook, findings: Findings) -> None:
    if look.free_bytes < LITTLE_ROOM_BYTES:
        findings.warn("disk", f"{size(look.free_bytes)} are free where the state is", "make room before it is full")


def _last_tick(emitted: int) -> str:
    return f"last tick {span(time.time() - emitted)} ago" if emitted else "nothing written yet"


def _running(settings: Settings) -> str:
    """Return the progress that the running exporter's status server reports, if it answers."""
    if settings.http_addr is None:
        return ""
    host, port = settings.http_addr
    connection = http.client.HTTPConnection(host_to_ask(host), port, timeout=2)
    with suppress(OSError, http.client.HTTPException, ValueError):
        connection.request("GET", "/metrics")
        found = _WATERMARK.search(connection.getresponse().read(4 * 1024 * 1024).decode("utf-8", "replace"))
        if found and float(found[1]) > 0:
            return f", complete up to {span(time.time() - float(found[1]))} ago"
    connection.close()
    return ""


async def check_bucket_state(bucket: S3Bucket, place: InBucket, findings: Findings) -> None:
    """Check that the state in the bucket exists, or can be written there."""
    async with findings.contact(STATE):
        key = f"{place.prefix}/.cdn77-exporter-check"
        await bucket.abort_upload(key, await bucket.begin_upload(key))
        newest_ms, count = 0, 0
        async for page in bucket.list_files(f"{place.prefix}/"):
            count += len(page)
            newest_ms = max(newest_ms, *(file.modified_ms for file in page))
        if count:
            age = span(time.time() - newest_ms / 1000)
            findings.ok(STATE, f"{place}: writable, {count:,} objects, last written {age} ago")
        else:
            findings.ok(STATE, f"{place}: writable, empty; a fresh start")

"""Checks the receiver: whether it accepts writes, and how late samples may arrive."""

from __future__ import annotations

import time

from cdn77_exporter.commands.check.findings import Findings
from cdn77_exporter.commands.check.histograms import check_histograms
from cdn77_exporter.commands.check.versions import Versions, find_versions, understands_2
from cdn77_exporter.core.encode.blocks import compress
from cdn77_exporter.core.encode.parts import in_version
from cdn77_exporter.core.encode.remote_write_1 import series_entry
from cdn77_exporter.core.encode.remote_write_pb2 import Label, Sample
from cdn77_exporter.core.errors import Misconfigured, Refused, Transient
from cdn77_exporter.core.timeline import FOLD_SECONDS
from cdn77_exporter.edge.receiver import RemoteWriter
from cdn77_exporter.edge.receiver.query import Memory, QueryApi, TooMuch, query_base, seconds_of
from cdn77_exporter.settings import Settings
from cdn77_exporter.settings.metrics import PROBE, PROBE_LABEL

RECEIVER, SERVER, OUT_OF_ORDER, BACKFILL = "receiver", "receiver's program", "out-of-order samples", "BACKFILL_WINDOW"
#: A server that takes samples of any age, as its documentation says; it does not tell so itself.
_TAKES_ALL = "VictoriaMetrics"


async def check_receiver(writer: RemoteWriter, settings: Settings, findings: Findings) -> None:
    """Write the metrics' descriptions, then ask the query API beside it, if there is one."""
    began = time.monotonic()
    proxy = settings.proxies.shown_for(settings.prometheus_url)
    through = f" through {proxy}" if proxy else ""
    async with findings.contact(RECEIVER, through=proxy):
        try:
            versions = await find_versions(writer, settings)
        except Refused as error:
            # It was reached and has let us in; what it has against a request without samples need not matter.
            findings.warn(
                RECEIVER,
                f"reached, but it answers {error} to a request without samples",
                "if the receiver's documentation says nothing of it, start the exporter and look for request_refused",
            )
            versions = Versions(takes_1=True, takes_2=await understands_2(writer), wanted=settings.remote_write_version)
        else:
            milliseconds = (time.monotonic() - began) * 1000
            findings.ok(RECEIVER, f"reached{through}, logged in, accepting (an empty write took {milliseconds:.0f} ms)")
    if findings.all[-1].status == "failed":
        findings.skip(OUT_OF_ORDER, "not asked, since the receiver does not take writes")
        return
    base = query_base(settings.prometheus_url)
    api = None if base is None else QueryApi(writer, base)
    server = await _server(api, findings)
    versions.tell(findings)
    await _check_window(writer, api, server, versions.used, settings, findings)
    await check_histograms(writer, versions.used, settings, findings)


async def _server(api: QueryApi | None, findings: Findings) -> str:
    """Say what the receiver is, and which version of it, if it tells; return that."""
    server = ""
    if api is not None:
        try:
            server = await api.server()
        except (Transient, Misconfigured, Refused, TooMuch):
            server = ""
    if server:
        findings.ok(SERVER, server)
    else:
        findings.skip(SERVER, "it does not tell")
    return server


async def _check_window(
    writer: RemoteWriter, api: QueryApi | None, server: str, version: int, settings: Settings, findings: Findings
) -> None:
    window = await _window(api, server, findings)
    if settings.backfill_window > FOLD_SECONDS:
        await _check_backfill(writer, api, window, _probe(version, settings), settings, findings)


async def _window(api: QueryApi | None, server: str, findings: Findings) -> str | None:
    """Say how late samples may come, if the query API tells; return that as the receiver has it, empty for off."""
    if api is None:
        findings.skip(OUT_OF_ORDER, "no query API is known for this kind of address; the exporter does without")
        return None
    if server.startswith(_TAKES_ALL):
        findings.ok(OUT_OF_ORDER, "taken, as old as its retention allows")
        return None
    try:
        window = await api.out_of_order_window()
    except (Transient, Misconfigured, Refused, TooMuch):
        findings.skip(OUT_OF_ORDER, "the query API does not say; the exporter does without")
        return None
    late = "off; the exporter needs none, and writes nothing that is an hour older than the newest sample"
    findings.ok(OUT_OF_ORDER, f"taken up to {window} late" if window else late)
    return window


async def _check_backfill(
    writer: RemoteWriter,
    api: QueryApi | None,
    window: str | None,
    body: bytes,
    settings: Settings,
    findings: Findings,
) -> None:
    """Write `body`: one sample of a series of our own, as old as `BACKFILL_WINDOW` allows; and look for it."""
    seconds = settings.backfill_window
    remedy = (
        f"set storage.tsdb.out_of_order_time_window of Prometheus to more than {seconds / 3600:g} h, or "
        f"BACKFILL_WINDOW to less than what the receiver takes ({window or '55m'})"
    )
    async with findings.contact(BACKFILL):
        try:
            await writer.write(body)
        except Refused as error:
            findings.fail(BACKFILL, f"samples that are {seconds / 3600:g} h old are refused ({error})", remedy)
            return
        if api is not None and await Memory(writer, settings.prometheus_url).holds(body) is False:
            findings.warn(
                BACKFILL,
                f"a sample that is {seconds / 3600:g} h old was accepted, but cannot be found",
                "check that the receiver keeps samples so long (its retention)",
            )
        elif window and seconds_of(window) <= seconds:  # the zeros of a new series are older still
            findings.fail(
                BACKFILL, f"reaches {seconds / 3600:g} h back, but samples may be {window} late at most", remedy
            )
        elif window == "":
            findings.warn(
                BACKFILL,
                f"reaches {seconds / 3600:g} h back, which Prometheus takes as long as it has nothing else",
                "set storage.tsdb.out_of_order_time_window of Prometheus at least as long, unless it stays empty",
            )
        else:
            findings.ok(BACKFILL, f"samples that are {seconds / 3600:g} h old are taken")


def _probe(version: int, settings: Settings) -> bytes:
    """Return a request with one sample; the same window's samples of later checks come after it."""
    seconds = settings.backfill_window
    at_ms = round((time.time() - seconds) * 1000)
    own = {"__name__": PROBE, PROBE_LABEL: f"{seconds:g}s", **dict(settings.external_labels.pairs)}
    labels = [Label(name=name, value=value) for name, value in sorted(own.items())]
    return in_version(compress(series_entry(labels, [Sample(value=1.0, timestamp=at_ms)])), version)

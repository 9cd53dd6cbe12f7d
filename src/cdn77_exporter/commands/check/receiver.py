"""Checks the receiver: whether it accepts writes, and how late samples may arrive."""

from __future__ import annotations

import time

from cdn77_exporter.commands.check.findings import Findings
from cdn77_exporter.core.encode.remote_write_1 import compress, metadata_entries
from cdn77_exporter.core.errors import Misconfigured, Refused, Transient
from cdn77_exporter.core.measures import MEASURES
from cdn77_exporter.core.timeline import FOLD_SECONDS
from cdn77_exporter.edge.receiver import RemoteWriter
from cdn77_exporter.edge.receiver.query import QueryApi, TooMuch, query_base
from cdn77_exporter.settings import Settings

RECEIVER, OUT_OF_ORDER = "receiver", "out-of-order samples"


async def check_receiver(writer: RemoteWriter, settings: Settings, findings: Findings) -> None:
    """Write the metrics' descriptions and no sample, then ask the query API beside it, if there is one."""
    began = time.monotonic()
    async with findings.contact(RECEIVER):
        try:
            await writer.write(compress(metadata_entries(MEASURES.rows)))
        except Refused as error:
            # It was reached and has let us in; what it has against a request without samples need not matter.
            findings.warn(
                RECEIVER,
                f"reached, but it answers {error} to a request without samples",
                "if the receiver's documentation says nothing of it, start the exporter and look for request_refused",
            )
        else:
            milliseconds = (time.monotonic() - began) * 1000
            findings.ok(RECEIVER, f"reached, logged in, accepting (an empty write took {milliseconds:.0f} ms)")
    if findings.all[-1].status == "failed":
        findings.skip(OUT_OF_ORDER, "not asked, since the receiver does not take writes")
        return
    await _check_window(writer, settings, findings)


async def _check_window(writer: RemoteWriter, settings: Settings, findings: Findings) -> None:
    base = query_base(settings.prometheus_url)
    if base is None:
        findings.skip(OUT_OF_ORDER, "no query API is known for this kind of address; the exporter does without")
        return
    api = QueryApi(writer, base)
    try:
        version = await api.version()
        window = await api.out_of_order_window()
    except (Transient, Misconfigured, Refused, TooMuch):
        findings.skip(OUT_OF_ORDER, "the query API does not say; the exporter does without")
        return
    about = f"Prometheus {version}: " if version else ""
    if window:
        findings.ok(OUT_OF_ORDER, f"{about}taken up to {window} late")
    elif settings.backfill_window > FOLD_SECONDS:
        findings.warn(
            OUT_OF_ORDER,
            f"{about}off, but BACKFILL_WINDOW reaches {settings.backfill_window / 3600:g} h back",
            "set storage.tsdb.out_of_order_time_window of Prometheus at least as long, unless it is empty",
        )
    else:
        findings.ok(OUT_OF_ORDER, f"{about}off; the exporter needs none")

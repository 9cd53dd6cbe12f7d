"""`cdn77-exporter backfill`: turns log files that are too old for the receiver into OpenMetrics text for promtool."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cdn77_exporter.commands.arguments import parse_time
from cdn77_exporter.commands.output import Bar, Waiting, ended_sums, instant, say, size
from cdn77_exporter.core.errors import ConfigError
from cdn77_exporter.core.phrases import number, span

if TYPE_CHECKING:
    from cdn77_exporter.commands.backfill.openmetrics import Spool
    from cdn77_exporter.commands.backfill.replay import Replay

_BLOCKS = "promtool tsdb create-blocks-from openmetrics"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        "Turns old log files into OpenMetrics text, with the samples that an exporter would have written in its time. "
        f"`{_BLOCKS} FILE DATA_DIR` makes blocks of it, which Prometheus serves after it was started on them."
    )
    parser.epilog = (
        "Settings that decide what counts are honoured: TICK_SECONDS, SESSION_WINDOW_SECONDS, STREAM_PATTERN, "
        "STREAM_ALLOWLIST, VIEWER_IPV6_PREFIX, GEOIP_DB_PATH, EXTERNAL_LABELS, METRICS_OFF, LABELS_OFF and the MAX_ "
        "limits; others need not be set. A running "
        "exporter has written from its first_tick on (message service_started): end the span there with --to, or "
        "requests count twice. "
        "A TIME is such as 2026-01-10T14:00:00Z, or a length before now such as 12h. "
        "Exit codes: 0 done, 1 a file was unreadable or nothing was to be written, 2 usage or configuration."
    )
    parser.add_argument("folder", metavar="DIR", help="a folder with log files (*.gz), in it or below")
    parser.add_argument("--out", required=True, metavar="FILE", help="the text; it must not be there yet")
    parser.add_argument("--from", dest="begin", type=parse_time, metavar="TIME", help="leave out what is before")
    parser.add_argument("--to", dest="end", type=parse_time, metavar="TIME", help="leave out what is from there on")


def run(arguments: argparse.Namespace) -> int:
    """Read, count and write; return the exit code."""
    from cdn77_exporter.commands.backfill.openmetrics import Spool  # noqa: PLC0415
    from cdn77_exporter.commands.log_folder import log_paths  # noqa: PLC0415 - --help is quick

    out = Path(arguments.out)
    if out.exists():
        raise ConfigError([f"{out} is there already; remove it, or name another file with --out."])
    if not out.absolute().parent.is_dir():
        raise ConfigError([f"The folder of {out} is not there; make it, or name another file with --out."])
    replay = _replay(arguments)
    paths = log_paths(arguments.folder)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.absolute().parent) as folder:
        with Bar("looking at files", len(paths)) as bar:
            spans = replay.spans(paths, bar.advance)
        spool = Spool(Path(folder))
        if spans:
            with Bar("counting files", len(spans)) as bar:
                replay.run(spans, spool, bar.advance)
            whole = Path(folder, "text")
            with Waiting("writing"), whole.open("wb") as file:
                spool.write(file)
                file.flush()
                os.fsync(file.fileno())
            whole.rename(out)
    for path, reason in replay.unreadable:
        say(f"{path}: unreadable ({reason})")
    if not spans:
        say(f"There is no event to write in the files of {arguments.folder}; see `inspect` on them.")
        return 1
    _show(out, len(spans), spool, replay)
    return 1 if replay.unreadable else 0


def _replay(arguments: argparse.Namespace) -> Replay:
    from dataclasses import replace  # noqa: PLC0415 - --help is quick

    from cdn77_exporter.commands.backfill.replay import Replay  # noqa: PLC0415
    from cdn77_exporter.core.measures import Histograms  # noqa: PLC0415
    from cdn77_exporter.edge.geoip import GeoIp  # noqa: PLC0415
    from cdn77_exporter.settings import load  # noqa: PLC0415

    settings = load(os.environ, bucket=False, receiver=False)
    tick = settings.tick_seconds
    locate = None
    if settings.geoip_db_path:
        geoip = GeoIp(settings.geoip_db_path)
        if not geoip.available:
            raise ConfigError([f"GEOIP_DB_PATH cannot be used ({geoip.fault}); put a MaxMind City database there."])
        locate = geoip.locate
    if settings.histograms is Histograms.NATIVE:
        settings = replace(settings, histograms=Histograms.CLASSIC)
        say("OpenMetrics text has no native histograms; what HISTOGRAMS asks for is written as classic ones.")
    return Replay(
        replace(settings.timeline_rules, timestamp_offset_ms=0, backfill_seconds=0),
        settings.decoder_rules.decoder(),
        int(time.time() * 1000),
        locate,
        None if arguments.begin is None else int(arguments.begin // tick) * tick,
        None if arguments.end is None else int(arguments.end // tick) * tick,
        measures=settings.measures,
    )


def _show(out: Path, files: int, spool: Spool, replay: Replay) -> None:
    length = span((spool.newest_ms - spool.oldest_ms) / 1000)
    print(f"{number(files, 'file')}, {number(replay.events, 'event')}")
    if replay.saturated:
        print(ended_sums(replay.saturated))
    print(f"{number(spool.series)} series, {number(spool.samples, 'sample')}")
    print(f"{instant(spool.oldest_ms / 1000)} to {instant(spool.newest_ms / 1000)} ({length})")
    print(f"{out}: {size(out.stat().st_size)}")
    print(f"Next: {_BLOCKS} {out} DATA_DIR")

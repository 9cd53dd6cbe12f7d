"""Makes the timeline that counting begins with: the state's, or a fresh one."""

from __future__ import annotations

import platform
from dataclasses import replace

from cdn77_exporter import __version__
from cdn77_exporter.core.already_told import AlreadyTold
from cdn77_exporter.core.measures import window_label
from cdn77_exporter.core.timeline import Timeline
from cdn77_exporter.core.watermark import Watermark
from cdn77_exporter.edge.clock import Clock
from cdn77_exporter.edge.geoip import GeoIp
from cdn77_exporter.edge.state import State
from cdn77_exporter.flow.ports import Report
from cdn77_exporter.runtime import without_collection
from cdn77_exporter.settings import Settings


async def restore(
    settings: Settings,
    state: State,
    *,
    watermark: Watermark,
    geoip: GeoIp,
    clock: Clock,
    report: Report,
    pushed: AlreadyTold,
) -> Timeline:
    """Return the timeline as it was committed last, restore the watermark too, and say how the service starts.

    `pushed`: the last tick that the bucket knows to be pushed, and when.
    """
    rules = settings.timeline_rules
    # What is ahead of the time was written with a wrong clock.
    pushed = replace(pushed, tick=min(pushed.tick, clock.possible_ms()[-1] // 1000))

    def read() -> tuple[Timeline, bool, int, bool]:
        locate = geoip.locate if geoip.available else None
        timeline = Timeline(
            rules,
            start_ms=clock.began_ms(),
            key=state.database.secret_key(),
            locate=locate,
            measures=settings.measures,
        )
        snapshot = state.database.load()
        if snapshot is not None:
            with without_collection():
                timeline.restore(snapshot)
            watermark.restore(snapshot.shards, snapshot.meta["watermark_ms"], clock.monotonic())
        last = timeline.emitted
        return timeline, snapshot is None, last, timeline.begin_after(pushed)

    began = clock.monotonic()
    devices = settings.device_rules.number
    same_devices = await state.note("device_rules", devices) == devices
    timeline, fresh, last, older = await state.run(read)
    if older:
        report("state_older", path=str(settings.state_path), last_tick=last, pushed_tick=pushed.tick)
        left = [number for number, _, _ in await state.outbox()]
        await state.mark_done(left, None)  # told long ago, by the process that went on from the original
    _tell_changes(settings, timeline, report, devices_changed=not (fresh or same_devices))
    counts = await state.counts()
    report(
        "state_opened",
        path=str(settings.state_path),
        fresh=fresh,
        last_tick=last,
        series=len(timeline.series),
        viewers=len(timeline.viewers),
        files=counts["counted"],
        outbox=counts["requests"],
        seconds=round(clock.monotonic() - began, 3),
    )
    if timeline.filling:
        windows = ",".join(window_label(length) for length in timeline.filling)
        report("windows_filling", windows=windows, kept_seconds=timeline.kept_seconds)
    report(
        "service_started",
        version=__version__,
        python=platform.python_version(),
        timestamp_offset_ms=rules.timestamp_offset_ms,
        first_tick=timeline.floor or None,
        settings=settings.public(),
    )
    return timeline


def _tell_changes(settings: Settings, timeline: Timeline, report: Report, *, devices_changed: bool) -> None:
    """Say which settings are others than those of the state."""
    changed = timeline.changed
    if changed:
        report(
            "metrics_changed",
            new=", ".join(changed.begun),
            relabelled=", ".join(changed.relabelled),
            ended=", ".join(changed.ended),
        )
    if devices_changed:
        path, types = str(settings.device_rules_file or "built-in"), len(settings.device_rules.devices)
        report("device_rules_changed", path=path, types=types)

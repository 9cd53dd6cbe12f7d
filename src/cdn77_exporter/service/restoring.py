"""Makes the timeline that counting begins with: the state's, or a fresh one."""

from __future__ import annotations

import platform

from cdn77_exporter import __version__
from cdn77_exporter.core.timeline import Timeline
from cdn77_exporter.core.watermark import Watermark
from cdn77_exporter.edge.clock import Clock
from cdn77_exporter.edge.geoip import GeoIp
from cdn77_exporter.edge.state import State
from cdn77_exporter.flow.ports import Report
from cdn77_exporter.runtime import without_collection
from cdn77_exporter.settings import Settings


async def restore(
    settings: Settings, state: State, *, watermark: Watermark, geoip: GeoIp, clock: Clock, report: Report
) -> Timeline:
    """Return the timeline as it was committed last, restore the watermark too, and say how the service starts."""
    rules = settings.timeline_rules

    def read() -> tuple[Timeline, bool]:
        locate = geoip.locate if settings.geoip_db_path else None
        timeline = Timeline(rules, start_ms=clock.now_ms(), key=state.database.secret_key(), locate=locate)
        snapshot = state.database.load()
        if snapshot is not None:
            with without_collection():
                timeline.restore(snapshot)
            watermark.restore(snapshot.shards, snapshot.meta["watermark_ms"])
        return timeline, snapshot is None

    began = clock.monotonic()
    timeline, fresh = await state.run(read)
    counts = await state.counts()
    report(
        "state_opened",
        path=str(settings.state_path),
        fresh=fresh,
        last_tick=timeline.emitted,
        series=len(timeline.series),
        viewers=len(timeline.viewers),
        files=counts["counted"],
        outbox=counts["requests"],
        seconds=round(clock.monotonic() - began, 3),
    )
    report(
        "service_started",
        version=__version__,
        python=platform.python_version(),
        timestamp_offset_ms=rules.timestamp_offset_ms,
        first_tick=timeline.floor,
        settings=settings.public(),
    )
    return timeline

"""The whole counting by brute force: from events, in the order in which they arrive, to every sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product

from cdn77_exporter.core.columns import Counts
from cdn77_exporter.core.decoded import FileStats
from tests.support.counts import counts_of
from tests.support.plain_series import PlainSeries
from tests.support.players import Players, buckets
from tests.support.samples import SeriesName, named

Locate = Callable[[str], tuple[str, str]]


@dataclass(frozen=True)
class Happened:
    """One request as a log line tells of it, already read."""

    ms: int
    stream: str = "a" * 32
    ip: str = "192.0.2.1"
    device: str = "web"
    country: str = "CZ"
    status: str = "200"
    size: int = 1000
    wait: int = 20
    cdn: str = "1"
    cache: str = "HIT"
    pop: str = "prague"


def tick_after(ms: int, step: int) -> int:
    """The first tick (Unix seconds) after an instant (Unix ms)."""
    return (ms // 1000 // step + 1) * step


def decoded_of(events: Iterable[Happened], step: int) -> tuple[FileStats, Counts]:
    """What the decoder makes of a file with these events."""
    stats = FileStats()
    groups: dict[int, dict[tuple[str, ...], list[int]]] = {}
    viewers: dict[int, dict[tuple[str, str, str, str], list[int]]] = {}
    for one in events:
        tick = tick_after(one.ms, step)
        stats.requests[tick] = stats.requests.get(tick, 0) + 1
        sums = groups.setdefault(tick, {}).setdefault(
            (one.stream, one.cdn, one.cache, one.pop, one.status), [0, 0, 0, 0]
        )
        for place, amount in enumerate((1, one.size, one.wait, int(one.wait > 0))):
            sums[place] += amount
        seen = viewers.setdefault(tick, {}).setdefault((one.stream, one.ip, one.device, one.country), [one.ms, one.ms])
        seen[:] = [min(seen[0], one.ms), max(seen[1], one.ms)]
        stats.events += 1
        stats.lines += 1
        stats.newest_ms = max(stats.newest_ms, one.ms)
    return stats, counts_of(groups, viewers)


class PlainTimeline:
    """Every sample that the contract asks for. Times in Unix ms, ticks in Unix seconds."""

    def __init__(
        self,
        *,
        step: int,
        window: int,
        active: Iterable[int] = (),
        presence: int = 30,
        gap: int = 120,
        start_ms: int,
        backfill: int = 0,
        idle: int = 86_400,
        offset_ms: int = 0,
        locate: Locate | None = None,
    ) -> None:
        self.step, self.window, self.backfill, self.offset_ms, self.locate = step, window, backfill, offset_ms, locate
        self.idle = idle
        self.windows = [window, *active]
        self.floor = tick_after(start_ms - backfill * 1000, step)
        self.first = self.floor + step
        self.settled = self.emitted = 0
        self.held: list[tuple[int, Happened]] = []
        self.counted: list[Happened] = []
        self.series: dict[SeriesName, PlainSeries] = {}
        self._last: dict[tuple[SeriesName, str], int] = {}
        self._lengths = (presence, gap, max(*self.windows, gap))
        self._players: dict[tuple[str, str], Players[str]] = {}  # by stream and device
        self._told: Counter[SeriesName] = Counter()  # of what they count
        self._watched = 0  # the last tick that they have settled

    def absorb(self, events: Iterable[Happened]) -> int:
        """Take in a file; how many of its events were late."""
        late = 0
        for one in events:
            own = tick_after(one.ms, self.step)
            late += own <= self.settled
            self.held.append((max(own, self.settled + self.step), one))
        return late

    def advance(self, watermark_ms: int, now_ms: int) -> None:
        """Write the ticks up to the watermark, those that have become too old folded into the first that has not."""
        limit = watermark_ms // 1000 // self.step * self.step
        oldest = now_ms / 1000 - max(3300, self.backfill)
        first = max(self.first, self.emitted + self.step, tick_after(int(oldest * 1000), self.step))
        for tick in range(first, limit + 1, self.step):
            self._emit(tick, now_ms)
        # Before the first tick that can be written only those that hold something are settled.
        held = limit if first <= limit else max((at for at, _ in self.held if at <= limit), default=0)
        self.settled = max(self.settled, held)

    def restart(self) -> None:
        """The next process with the state of this one."""
        if self.emitted:
            self.first = self.emitted + self.step

    def _emit(self, tick: int, now_ms: int) -> None:
        # A late event comes after what was settled before it, also where no tick could be written yet.
        due = sorted(((at, one) for at, one in self.held if at <= tick), key=lambda held: (held[0], held[1].ms))
        self.held = [(at, one) for at, one in self.held if at > tick]
        waits: dict[SeriesName, list[int]] = {}
        settled = 0
        for at, one in due:
            if settled < at:
                self._leave(settled)
            settled = at
            where = {"stream_name": one.stream, "cdn_id": one.cdn, "cache_status": one.cache, "pop": one.pop}
            self._add("cdn77_requests_total", 1, where)
            self._add("cdn77_transfer_bytes_total", one.size, where)
            self._add("cdn77_responses_total", 1, {**where, "response_status": one.status})
            self._add("cdn77_time_to_first_byte_seconds_sum", one.wait, where)
            self._add("cdn77_time_to_first_byte_seconds_count", int(one.wait > 0), where)
            if one.wait:
                waits.setdefault(named("cdn77_time_to_first_byte_ms", where), []).append(one.wait)
            self._appear(one)
        self.counted += [one for _, one in due]
        self._leave(tick)
        for at in sorted({at for at, _ in due} | {tick}):
            self._watch(at, [one for own, one in due if own == at])
        for name, values in waits.items():
            self._set(name, sum(values) / len(values), always=True)
        present = {name: len(viewers) for name, viewers in self.present(tick).items()}
        for (stream, device), players in self._players.items():
            labels = {"stream_name": stream, "device_type": device}
            if players.concurrent():
                present[named("cdn77_concurrent_viewers", labels)] = players.concurrent()
        for name in self.series:
            if dict(name)["__name__"].startswith(("cdn77_active", "cdn77_concurrent")):
                present.setdefault(name, 0)
        for name, viewers in present.items():
            self._set(name, viewers)
        pad_oldest = now_ms / 1000 - max(3480, self.backfill + 300)
        pad_from = max(self.floor, tick_after(int(pad_oldest * 1000), self.step))
        watched = {dict(name)["stream_name"] for name, viewers in present.items() if viewers}
        for name, series in self.series.items():
            own = dict(name)["stream_name"] in watched
            series.emit(tick, self.step, pad_from, self.offset_ms, idle=self.idle, watched=own)
        self.emitted = tick

    def _watch(self, tick: int, happened: Iterable[Happened]) -> None:
        """Let players settle a tick, and count what they have watched since the one before."""
        requests: dict[tuple[str, str], list[tuple[str, int]]] = {key: [] for key in self._players}
        for one in happened:
            requests.setdefault((one.stream, one.device), []).append((one.ip, one.ms))
        for key, own in requests.items():
            players = self._players.setdefault(key, Players(*self._lengths, self._watched))
            players.settle(tick, own)
            labels = {"stream_name": key[0], "device_type": key[1]}
            over = players.over()
            self._reach("cdn77_watch_seconds_total", players.watched_ms(), labels)
            self._reach("cdn77_sessions_total", players.begun(), labels)
            new = len(over) - self._told[named("cdn77_session_watch_seconds_count", labels)]
            for bound, count in buckets(over).items():
                self._reach("cdn77_session_watch_seconds_bucket", count, {**labels, "le": bound}, touch=new > 0)
            self._reach("cdn77_session_watch_seconds_sum", sum(over), labels)
            self._reach("cdn77_session_watch_seconds_count", len(over), labels)
        self._watched = tick

    def _reach(self, metric: str, total: int, labels: dict[str, str], *, touch: bool = False) -> None:
        """Count what has come to a total since the last call."""
        name = named(metric, labels)
        more = total - self._told[name]
        self._told[name] = total
        if more or touch:
            self._add(metric, more, labels)

    def _leave(self, tick: int) -> None:
        self._last = {key: at for key, at in self._last.items() if at >= (tick - self.window) * 1000}

    def _series(self, name: SeriesName) -> PlainSeries:
        return self.series.setdefault(name, PlainSeries(dict(name)["__name__"]))

    def _add(self, metric: str, amount: int, labels: dict[str, str]) -> None:
        series = self._series(named(metric, labels))
        series.value += amount
        series.touched = True

    def _set(self, name: SeriesName, value: float, *, always: bool = False) -> None:
        series = self._series(name)
        if always or series.value != value:
            series.value = value
            series.touched = True

    def _appear(self, one: Happened) -> None:
        stream = {"stream_name": one.stream}
        kinds = [
            ("cdn77_viewers_total", stream),
            ("cdn77_viewers_by_device_total", {**stream, "device_type": one.device}),
            ("cdn77_viewers_by_country_total", {**stream, "country": one.country}),
        ]
        if self.locate:
            country, region = self.locate(one.ip)
            kinds.append(("cdn77_viewers_by_region_total", {**stream, "country": country, "region": region}))
        for metric, labels in kinds:
            viewer = (named(metric, labels), one.ip)
            if viewer not in self._last or one.ms - self._last[viewer] > self.window * 1000:
                self._add(metric, 1, labels)
            self._last[viewer] = max(one.ms, self._last.get(viewer, 0))

    def present(self, tick: int) -> dict[SeriesName, set[str]]:
        """The IPs that each window gauge holds at a tick."""
        found: dict[SeriesName, set[str]] = {}
        for window, one in product(self.windows, self.counted):
            if (tick - window) * 1000 <= one.ms < tick * 1000:
                country, region = self.locate(one.ip) if self.locate else ("XX", "Unknown")
                length = f"{window // 60}m" if window % 60 == 0 else f"{window}s"
                base = {"stream_name": one.stream, "window": length}
                kinds: tuple[tuple[str, dict[str, str]], ...] = (
                    ("cdn77_active_viewers", {}),
                    ("cdn77_active_viewers_by_device", {"device_type": one.device}),
                    ("cdn77_active_viewers_by_country", {"country": country}),
                    ("cdn77_active_viewers_by_region", {"country": country, "region": region}),
                    ("cdn77_active_viewers_by_ip_version", {"ip_version": "6" if ":" in one.ip else "4"}),
                )
                for metric, labels in kinds:
                    found.setdefault(named(metric, {**base, **labels}), set()).add(one.ip)
        return found

    def samples(self) -> dict[SeriesName, dict[int, float | None]]:
        """Every sample by series and timestamp (ms); None for a stale marker."""
        return {name: one.samples for name, one in self.series.items() if one.samples}

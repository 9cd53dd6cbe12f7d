"""Counts in, complete ticks out: what is counted and not yet settled, and the samples that settle it.

An event belongs to the first tick after it. A tick is *settled* once the watermark has reached it: what it counted goes
into the series and the viewer windows, in the order of ticks. It is *emitted* when it may also be written: not before
the floor, and not when it has become too old for a receiver; what could not be emitted shows in the next tick that is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from cdn77_exporter.core.admission import Admission
from cdn77_exporter.core.already_told import NOTHING_TOLD, AlreadyTold
from cdn77_exporter.core.catalogue import Catalogue, External
from cdn77_exporter.core.changes import Changes, CountedFile, ProfileRow, Request, Snapshot
from cdn77_exporter.core.columns import Counts, stable_order
from cdn77_exporter.core.content import Content
from cdn77_exporter.core.encode.reading import samples_of, without
from cdn77_exporter.core.encode.remote_write import RemoteWrite
from cdn77_exporter.core.encode.request_limit import RequestLimit
from cdn77_exporter.core.encode.version import Spoken
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.core.labelling import Labelling
from cdn77_exporter.core.measures import MEASURES, Measure, Measures, Returned
from cdn77_exporter.core.open_ticks import OpenTick, decode_held, sums_of
from cdn77_exporter.core.owed import Owed, Sample, Told
from cdn77_exporter.core.places import Locate
from cdn77_exporter.core.series import PADDING_SECONDS, Frame, SeriesTable
from cdn77_exporter.core.settling import Settling
from cdn77_exporter.core.viewers.profiles import Profile, Profiles
from cdn77_exporter.core.viewers.rows import SEEN
from cdn77_exporter.core.viewers.window import Lengths, ViewerWindow

#: Ticks older than this are not written any more: receivers refuse what is an hour behind their head.
FOLD_SECONDS = 55 * 60
#: Padding reaches a little further back, but stays inside that hour.
_PAD_FOLD_SECONDS = 58 * 60
#: A tick written a second time is this much later than the first.
_REWRITE_MS = 100
_METADATA_SECONDS = 600
_OWED_FOR_LONG_SECONDS = 60
_SAMPLES_A_STEP = 50_000  # more in one step would only take memory


class Encoder(Protocol):
    """Writes down frames of a table of series."""

    def encode(self, series: SeriesTable, frames: Iterable[Frame]) -> list[tuple[bytes, int]]:
        """Return request bodies with their numbers of samples, in the order in which they must be sent."""

    def describe(self, measures: Iterable[Measure]) -> bytes:
        """Return a request body that holds the metadata of metrics; nothing where every request has it."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that the numbers depend on. Seconds, unless the name says otherwise.

    `external`: the labels that every series has beside its own.
    """

    tick_seconds: int = 15
    session_window_seconds: int = 7200
    active_windows: tuple[int, ...] = ()
    presence_seconds: int = 30
    session_gap_seconds: int = 120
    return_horizon: int = 0
    timestamp_offset_ms: int = 0
    backfill_seconds: float = 0
    max_streams: int = 10_000
    max_series: int = 1_000_000
    max_label_values: int = 10_000
    series_idle_seconds: int = 86_400
    send_metadata: bool = True
    external: External = ()

    @property
    def lengths(self) -> Lengths:
        """The lengths of the windows of viewers."""
        active = dict.fromkeys((self.session_window_seconds, *self.active_windows))
        return Lengths(tuple(active), self.presence_seconds, self.session_gap_seconds, self.return_horizon)


@dataclass(frozen=True, slots=True)
class Changed:
    """The metrics that differ from those of the state, by name: counters of the first two begin at zero.

    `begun`: the state did not have them. `relabelled`: it had them under other labels. `ended`: no longer sent.
    """

    begun: tuple[str, ...] = ()
    relabelled: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.begun or self.relabelled or self.ended)


class FileCounts(Protocol):
    """The facts about one file alone."""

    @property
    def requests(self) -> Mapping[int, int]:
        """Its events by their tick (Unix seconds)."""

    @property
    def content(self) -> Content:
        """By which it is known again."""


@dataclass(frozen=True, slots=True)
class Absorbed:
    """The outcome for a file: its `due` tick, how many of its events were late and by how much at most."""

    due: int
    late: int
    late_seconds: int


class Timeline:
    """The counting state of the whole service; pure, not thread-safe.

    `locate`: country and region of an address, None without a GeoIP database, which may come later. `start_ms`: the
    process's start, None when it is not known yet (see `begin`). `key`: the secret that viewers are hashed with, the
    same for the life of the state. `encoder`: None for remote write, in the version that is `spoken`.
    """

    def __init__(
        self,
        rules: Rules,
        *,
        start_ms: int | None,
        key: bytes,
        locate: Locate | None = None,
        measures: Measures = MEASURES,
        encoder: Encoder | None = None,
    ) -> None:
        self._rules = rules
        self._tick = rules.tick_seconds
        self._measures = measures
        self._catalogue = Catalogue(measures, rules.external)
        self.request_limit = RequestLimit()
        self.spoken = Spoken()
        self._encoder = encoder or RemoteWrite(
            self._catalogue, self.spoken, self.request_limit, describes=rules.send_metadata
        )
        self.series = SeriesTable(self._catalogue, self._tick, rules.series_idle_seconds)
        self._profiles = Profiles()
        self.viewers = ViewerWindow(self._profiles, rules.lengths, self._tick)
        self.streams = Admission(
            max_streams=rules.max_streams, max_series=rules.max_series, series=lambda: self.series.cost
        )
        self.labelling = Labelling(
            measures,
            self._catalogue,
            self.series,
            self._profiles,
            self.streams,
            key=key,
            locate=locate,
            lengths=rules.lengths,
            max_series=rules.max_series,
            max_label_values=rules.max_label_values,
        )
        self.owed = Owed(self.series)
        self._counts_returns = any(isinstance(row.value, Returned) for row in measures.rows)
        # Up to this tick no viewer returns: a process before has held requests for it and has not counted whose.
        self._returns_after = 0
        self.unsettled: dict[int, int] = {}  # requests that are not done, with their ticks
        self._told: list[tuple[int, bytes]] = []
        self._settling = Settling(self.series, self.labelling, measures.cubes)
        self._open: dict[int, OpenTick] = {}
        self._dirty: set[int] = set()  # open ticks with something that no commit holds
        self.begun = False  # whether it is known from when on ticks may be written; before, nothing is settled
        self.floor = 0
        self._first_emission = 0
        if start_ms is not None:
            self.begin(start_ms)
        self.settled = 0
        self.already_told = NOTHING_TOLD
        self.emitted = 0
        self.waits = False  # whether the last `advance` left a tick because earlier requests are not done
        self._rewrites = 0
        self._described = 0  # tick with which metadata was last sent
        self._next_request = 1
        self._files: list[CountedFile] = []
        self.changed = Changed()
        self.kept_seconds = 0  # how far back the restored state knows viewers
        self.filling: tuple[int, ...] = ()  # windows that are longer than that
        self._split: list[tuple[int, int]] = []  # spans of which it is not known when in them what is held happened

    def begin(self, start_ms: int) -> None:
        """Set the floor by the process's start (Unix ms)."""
        self.begun = True
        self.floor = max(self.floor, self._after(start_ms / 1000 - self._rules.backfill_seconds))
        self._first_emission = self.floor + self._tick  # the floor itself carries the zeros

    def _after(self, seconds: float) -> int:
        """Return the first tick after an instant (Unix seconds)."""
        return int(seconds // self._tick + 1) * self._tick

    def _at_or_after(self, tick: int) -> int:
        """Move a tick of an earlier process onto this one's grid: TICK_SECONDS may have been changed between them."""
        return -(-tick // self._tick) * self._tick

    @property
    def held_ticks(self) -> int:
        """Ticks that hold something and are not settled."""
        return len(self._open)

    @property
    def overflowed(self) -> int:
        """Series that were asked for over the bound."""
        return self.labelling.overflowed

    @property
    def saturated(self) -> int:
        """Sums of a tick that would not have fitted into 64 bits, and ended there."""
        return self._settling.saturated

    def use_places(self, locate: Locate) -> None:
        """Look viewers that come from now on up in this GeoIP database: it is the first, or another than before."""
        self.labelling.use_places(locate)

    # Taking in

    def absorb(self, files: Iterable[tuple[LogFile, FileCounts]], counts: Counts) -> list[Absorbed]:
        """Count files that were decoded together. Nothing of them is in any sample before the next `advance`."""
        codes = self.labelling.codes(counts.texts)
        for number, groups in enumerate(counts.groups):
            if len(groups):
                labels = codes[groups.labels]
                cells = self.labelling.cells(number, labels, groups.sums)
                for tick, begin, end, order in self._by_tick(groups.ticks):
                    rows = order[begin:end]
                    self._opened(tick).add_sums(number, cells[rows], groups.sums.take(rows, axis=0))
        hashes = self.labelling.hashes(counts.addresses)
        if len(counts.viewers):
            labels = codes[counts.viewers.labels]
            self._see(self.labelling.viewers(labels, counts.addresses, hashes, counts.viewers))
        for number, viewers in enumerate(counts.audiences[1:], 1):
            if len(viewers):
                seen = self.labelling.audience(number, codes[viewers.labels], hashes, viewers)
                self._see(seen)
        return [self._enter(file, stats) for file, stats in files]

    def _see(self, seen: npt.NDArray[np.void]) -> None:
        """Keep rows of `SEEN` in the ticks that count them."""
        if len(seen):
            ticks = (seen["first"] // 1000 // self._tick + 1) * self._tick
            for tick, begin, end, order in self._by_tick(ticks):
                self._opened(tick).add_viewers(seen.take(order[begin:end]), self._tick)

    def _opened(self, tick: int) -> OpenTick:
        self._dirty.add(tick)
        found = self._open.get(tick)
        if found is None:
            found = self._open[tick] = OpenTick(self._measures.cubes)
        return found

    def _by_tick(self, ticks: npt.NDArray[np.int64]) -> Iterable[tuple[int, int, int, npt.NDArray[np.int64]]]:
        """Yield each tick that counts the rows, with where its rows begin and end in an order of all of them."""
        ticks = np.maximum(ticks, self.settled + self._tick)
        order = stable_order(ticks)
        ticks = ticks[order]
        starts = np.flatnonzero(np.append(True, ticks[1:] != ticks[:-1]))
        ends = np.append(starts[1:], len(ticks))
        for begin, end in zip(starts.tolist(), ends.tolist(), strict=True):
            yield int(ticks[begin]), begin, end, order

    def _enter(self, file: LogFile, stats: FileCounts) -> Absorbed:
        """Note a file for the ledger; it is due when all of its events are emitted."""
        due, late, late_seconds = 0, 0, 0
        for tick, count in stats.requests.items():
            counted = max(tick, self.settled + self._tick)
            if counted > tick:
                late += count
                late_seconds = max(late_seconds, counted - tick)
            due = max(due, counted)
        if due:
            due = max(due, self._first_emission, self._after(self.emitted))
        self._files.append(CountedFile(file.key, file.etag, due, file.size, file.modified_ms, *stats.content))
        return Absorbed(due, late, late_seconds)

    # Settling

    def advance(self, watermark_ms: int, now_ms: int, most_ticks: int = 20) -> tuple[list[Request], bool]:
        """Settle the ticks up to the watermark, but not too many at once: their requests in order, and
        whether there are more ticks to come at once. `waits` says if one of them has to wait."""
        self.waits = False
        limit = watermark_ms // 1000 // self._tick * self._tick
        requests: list[Request] = []
        samples = 0
        for _ in range(most_ticks):
            tick = self._next_tick(limit, now_ms)
            if tick is None:
                return requests, False
            writable = tick >= self._writable_from(now_ms) and not self._is_split(tick)
            if writable and self._has_to_wait(tick):
                self.waits = True
                return requests, False
            self._settle(tick)
            if writable:
                written = self._emit(tick, now_ms)
                requests += written
                samples += sum(request.samples for request in written)
            if samples >= _SAMPLES_A_STEP:
                break
        return requests, True

    def _writable_from(self, now_ms: int) -> int:
        oldest = now_ms / 1000 - max(FOLD_SECONDS, self._rules.backfill_seconds)
        return max(self._first_emission, self._after(self.emitted), self._after(oldest))

    def _is_split(self, tick: int) -> bool:
        """Return whether something before the tick is held for a later one: TICK_SECONDS was changed just now.

        A sample there would tell of too little, and the rest would come late.
        """
        self._split = [span for span in self._split if span[1] > tick]
        return any(begin < tick for begin, _ in self._split)

    def _has_to_wait(self, tick: int) -> bool:
        """Return whether counters begin again at zero with the tick, and earlier ones are not done: until they are,
        it is not known from what.

        It waits for no longer than until it is too old to be written.
        """
        return bool(self.unsettled) and 0 < self.emitted < tick - PADDING_SECONDS

    def _next_tick(self, limit: int, now_ms: int) -> int | None:
        tick = self.settled + self._tick
        writable = self._writable_from(now_ms)
        if tick < writable:  # nothing can be written there, so only ticks that hold something matter
            tick = min((held for held in self._open if held >= tick), default=writable)
            tick = min(tick, writable)
        return tick if tick <= limit else None

    def _settle(self, tick: int) -> None:
        opened = self._open.pop(tick, None) or OpenTick(self._measures.cubes)
        self._settling.count(opened, returns=tick > self._returns_after)
        movement = self.viewers.advance(tick, opened.take_viewers())
        if tick <= self._returns_after:
            movement.forget_returns()
        self._settling.move(movement)
        self.settled = tick
        self._dirty.discard(tick)

    # Writing

    def _emit(self, tick: int, now_ms: int, rewrite_ms: int = 0) -> list[Request]:
        oldest = now_ms / 1000 - max(_PAD_FOLD_SECONDS, self._rules.backfill_seconds + 300)
        pad_from = max(self.floor, self._after(oldest))
        if not self.unsettled:
            self.owed.hand_over(self.labelling.successor)
        frames = self.series.emit(
            tick,
            offset_ms=self._rules.timestamp_offset_ms + rewrite_ms,
            pad_from=pad_from,
            # What is owed is paid when nothing else is on its way that might tell it.
            carried=None if self.unsettled else self.owed.pay(tick, self.emitted),
            settled=min(self.unsettled.values(), default=None),
        )
        slots, before = self.series.told
        zeros_from, zero_ticks = self.series.zeros_from(tick, pad_from), self.series.zero_ticks
        self.owed.begin((slot for slot, first in zero_ticks.items() if first >= tick), tick)
        told = Told(self.emitted, slots.tobytes(), before.tobytes(), zeros_from, self._tick, zero_ticks)
        bodies = self._encoder.encode(self.series, frames)
        self.labelling.forget(*self.series.forget(tick), self._open.values(), self.viewers.profiles)
        self.labelling.pass_time(self._tick, list(self._open.values()))
        self.labelling.tidy(list(self._open.values()), self.viewers.profiles)
        self.labelling.emitted()
        self._settling.emitted()
        self.emitted = tick
        if bodies and self._rules.send_metadata and tick - self._described >= _METADATA_SECONDS:
            self._described = tick
            description = self._encoder.describe(self._measures.rows)
            bodies += [(description, 0)] if description else []  # no sample waits for it
        if bodies:
            self._told.append((tick, msgspec.msgpack.encode(told)))
        return [self._request(tick, body, samples) for body, samples in bodies]

    def _request(self, tick: int, body: bytes, samples: int) -> Request:
        request = Request(self._next_request, tick, samples, body)
        self.unsettled[request.number] = tick
        self._next_request += 1
        return request

    # What became of requests

    def done(self, numbers: Iterable[int]) -> None:
        """Note that requests are not sent again."""
        for number in numbers:
            self.unsettled.pop(number, None)

    def seen_of(self, body: bytes) -> bytes:
        """Return the part of a request that a receiver sees rightly: what is owed and would be hidden stays owed."""
        unseen = self.owed.unseen(self._samples_of(body))
        return without(body, self.series, unseen) if unseen else body

    def _samples_of(self, body: bytes) -> list[Sample]:
        return sorted(samples_of(body, self.series, self._tick), key=lambda sample: sample.tick)

    def owed_for_long(self, most: int) -> tuple[int, list[tuple[str, int]]]:
        """Return how many series the receiver has not stored all of for over a minute, and `most` of them with the
        tick of the last sample that it has, 0 without any; the longest first.
        """
        waiting = self.owed.waiting(self.emitted - _OWED_FOR_LONG_SECONDS)
        return len(waiting), [(self.series.name_of(slot), tick) for slot, tick in waiting[:most]]

    def settle(self, body: bytes, *, stored: bool, told: bytes | None = None) -> None:
        """Note what became of a request, or of a part of one, that has these samples.

        `told`: what its tick tells of counters, for one that was not stored; None where the state has nothing of it.
        """
        samples = self._samples_of(body)
        if stored:
            self.owed.stored(samples)
        elif told is not None:
            self.owed.refused(samples, msgspec.msgpack.decode(told, type=Told))

    def flush_ms(self, now_ms: int) -> int:
        """Return when (Unix ms) all that is held can be written onto the next tick; 0 when nothing is held."""
        if not self._open and not self.series.pending():
            return 0
        return self._next_writable(now_ms) * 1000 + self._rules.timestamp_offset_ms

    def _next_writable(self, now_ms: int) -> int:
        return max(self._writable_from(now_ms), self.settled + self._tick)

    def flush(self, now_ms: int) -> tuple[list[Request], int] | None:
        """Write all that is held onto the next tick: the stop of a process that keeps no state. The requests, and the
        latest tick that they make good: nothing counted is missing in them.

        Who cannot wait until then (`flush_ms`) has the last tick written again, a little later: a tick in the future
        may be another process's floor. None when nothing was ever emitted before: then nothing may be written.
        """
        tick = self._next_writable(now_ms)
        rewrite_ms = 0
        if tick * 1000 + self._rules.timestamp_offset_ms > now_ms:
            if not self.emitted:
                return None
            tick = self.emitted
            self._rewrites += 1
            rewrite_ms = self._rewrites * _REWRITE_MS
        covered = max([tick, self._first_emission, *self._open])
        for held in sorted(self._open):
            self._settle(held)
        return self._emit(tick, now_ms, rewrite_ms), covered

    # State

    def take_changes(self, requests: list[Request], watermark_ms: int, shards: Iterable[tuple[str, int]]) -> Changes:
        """Return everything since the last call, for one atomic commit together with the requests of this step."""
        cubes, rows_of = self._measures.cubes, self.labelling.rows_of_cells()
        held = [
            (tick, self._open[tick].take_new(cubes, rows_of, self.labelling.vocabulary)) for tick in sorted(self._dirty)
        ]
        self._dirty.clear()
        files, self._files = self._files, []
        meta = {
            "tick_seconds": self._tick,
            "floor": self.floor,
            "begun": int(self.begun),
            "first_emission": self._first_emission,
            "settled": self.settled,
            "emitted": self.emitted,
            "next_request": self._next_request,
            "watermark_ms": watermark_ms,
            "told_tick": self.already_told.tick,
            "told_uploaded_ms": self.already_told.uploaded_ms,
            "viewers_since_ms": (self.settled - self.viewers.lengths.kept) * 1000,
            "presence_seconds": self._rules.presence_seconds,
            "session_gap_seconds": self._rules.session_gap_seconds,
            "returns": int(self._counts_returns),
            "returns_after": self._returns_after,
        }
        profiles = [
            ProfileRow(number, profile.stream, profile.device, profile.country, profile.place, profile.version)
            for number, profile in self._profiles.take_new()
        ]
        new = self.series.take_new()
        return Changes(
            meta=meta,
            metrics=self._catalogue.take_new(),
            profiles=profiles,
            profiles_gone=self._profiles.take_gone(),
            series_gone=self.series.take_gone(),
            told=self._take_told(),
            owed=self.owed.take_changes(),
            series_new=new,
            series=self.series.take_changes(new),
            pending=self.series.pending(),
            waits=self._settling.means(),
            viewers=self.viewers.take_changes(),
            held=held,
            held_until=self.settled,
            shards=list(shards),
            files=files,
            requests=requests,
        )

    def _take_told(self) -> list[tuple[int, bytes]]:
        told, self._told = self._told, []
        return told

    def restore(self, snapshot: Snapshot) -> None:
        """Continue where an earlier process ended (the timeline must be new)."""
        meta = snapshot.meta
        self.settled = meta["settled"] // self._tick * self._tick
        self.emitted = meta["emitted"]
        self._next_request = meta["next_request"]
        self.already_told = AlreadyTold(meta.get("told_tick", 0), meta.get("told_uploaded_ms", 0))
        # What was never written is known from the state, so a new series may have its zeros on ticks that the earlier
        # process wrote for others: the floor of padding is that of the first process, the floor of emission is not.
        if meta.get("begun", 1):
            self.begun = True
            self.floor = self._at_or_after(meta["floor"])
            self._first_emission = max(self.floor + self._tick, self._at_or_after(meta["first_emission"]))
        if self.emitted:
            self._first_emission = max(self._at_or_after(meta["first_emission"]), self._after(self.emitted))
        self._catalogue.restore(snapshot.metrics)
        self._profiles.restore(
            (row.number, Profile(row.stream, row.device, row.country, row.place, row.version))
            for row in snapshot.profiles
        )
        self.series.restore(snapshot.series_keys, snapshot.series, snapshot.pending, self.emitted)
        self._hand_on()
        self.labelling.emitted()
        self.labelling.restore_values()
        self.labelling.restore_label_sets()
        self._restore_means(snapshot.waits)
        self.owed.restore(snapshot.owed)
        self.unsettled = dict(snapshot.outbox)
        if "viewers_since_ms" in meta:
            self.kept_seconds = meta["settled"] - meta["viewers_since_ms"] // 1000
            self.filling = tuple(length for length in self.viewers.lengths.active if length > self.kept_seconds)
        self.viewers.restore(
            snapshot.viewer_runs,
            meta["settled"] * 1000,  # the tick that was settled, on whichever grid
            since_ms=meta.get("viewers_since_ms", 0),
            presence=meta.get("presence_seconds"),
            gap=meta.get("session_gap_seconds"),
        )
        self.streams.restore(self.series.streams())
        before = meta["tick_seconds"]
        for tick, encoded in snapshot.held:
            if before != self._tick:
                self._split.append((tick - before, tick))
            self._restore_held(max(self._at_or_after(tick), self.settled + self._tick), encoded)
        begun = any(isinstance(row.value, Returned) for row in self._catalogue.begun)
        self._returns_after = meta.get("returns_after", 0)
        if begun or not meta.get("returns"):
            self._returns_after = max(self._returns_after, *self._open, 0)
        self._settling.correct_gauges(self.viewers)

    def _hand_on(self) -> None:
        """Let every counter of a former metric go on in its successor, which begins at zero: it is another series."""
        self.changed = Changed(
            tuple(dict.fromkeys(measure.name for measure in self._catalogue.begun)),
            tuple(dict.fromkeys(measure.name for measure in self._catalogue.relabelled)),
            tuple(self.series.ended_metrics()),
        )
        slots, pending = self.series.take_former()
        found = [self.labelling.successor(slot) for slot in slots.tolist()]
        there = np.array([slot is not None for slot in found], np.bool_)
        successors = np.array([slot for slot in found if slot is not None], np.int64)
        self.series.add_all(successors, pending[there])

    def _restore_means(self, means: Iterable[tuple[int, int, int]]) -> None:
        """Take up means that no written tick has yet; those of former series are their successors'."""
        means = list(means)
        self._settling.restore(row for row in means if not self.series.is_former(row[0]))
        moved = [(self.labelling.successor(row[0]), *row[1:]) for row in means if self.series.is_former(row[0])]
        self._settling.add_means(np.array([row for row in moved if row[0] is not None], np.int64).reshape(-1, 3))

    def begin_after(self, told: AlreadyTold) -> bool:
        """Write nothing up to a tick that some process has pushed; call it before all else.

        Return whether the state is older than that: it is a backup, and another process went on from its original.
        What that one told of is settled here without being told again: the windows hold it, and every counter begins
        again at zero.
        """
        pushed = told.tick
        if pushed <= max(self.emitted, self.floor - self._tick):
            return False
        self.floor = self._after(pushed)
        self._first_emission = self.floor + self._tick
        if not self.settled:
            return False
        last = pushed // self._tick * self._tick
        for tick in sorted({*self._open, last}):
            if self.settled < tick <= last:
                self._settle(tick)
        self._settling.emitted()
        self.already_told = told
        self.emitted = pushed
        self.series.begin_anew(pushed)
        self.unsettled.clear()
        self.owed.drop()
        return True

    def _restore_held(self, tick: int, encoded: bytes) -> None:
        held = decode_held(encoded)
        opened = self._open.setdefault(tick, OpenTick(self._measures.cubes))
        for number, cube in enumerate(self._measures.cubes):
            for found in sums_of(held.cubes, cube, self._catalogue.begun):
                labels = self.labelling.codes(found.texts)[found.groups]
                self.labelling.restore_streams(number, labels)
                cells = self.labelling.cells(number, labels, found.sums)
                opened.add_sums(number, cells, found.sums, committed=True)
        if held.viewers:
            opened.add_viewers(np.frombuffer(held.viewers, SEEN), self._tick, committed=True)

"""Tallies in, complete ticks out: what is counted and not yet settled, and the samples that settle it.

An event belongs to the first tick after it. A tick is *settled* once the watermark has reached it: what it counted goes
into the series and the viewer windows, in the order of ticks. It is *emitted* when it may also be written: not before
the floor, and not when it has become too old for a receiver; what could not be emitted shows in the next tick that is.
"""

from __future__ import annotations

import hashlib
import ipaddress
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt

from cdn77_exporter.core import catalogue, wire
from cdn77_exporter.core.admission import OTHER, Admission
from cdn77_exporter.core.bundle import Share, share_of
from cdn77_exporter.core.catalogue import CATALOGUE, CODE
from cdn77_exporter.core.changes import Changes, CountedFile, Request, Snapshot
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.core.profiles import Profile, Profiles
from cdn77_exporter.core.recent import Recent
from cdn77_exporter.core.series import SeriesTable, series_key
from cdn77_exporter.core.tally import Group, Sums, Tally, TickTally, add_sums
from cdn77_exporter.core.viewer_rows import PARTS, SEEN, merge_seen, split
from cdn77_exporter.core.viewers import Movement, ViewerWindow

#: Ticks older than this are not written any more: receivers refuse what is an hour behind their head.
FOLD_SECONDS = 55 * 60
#: Padding reaches a little further back, but stays inside that hour.
_PAD_FOLD_SECONDS = 58 * 60
#: A tick written a second time is this much later than the first.
_REWRITE_MS = 100
_METADATA_SECONDS = 600
_MAX_KNOWN_IPS = 8_192
#: Rows of viewers that a tick keeps as they come; of more, those of one viewer are merged.
ROWS_AS_THEY_COME = 50_000
_MOST_BEFORE_MERGING = 1.2  # times as many rows as there were when they were merged last
_SAMPLES_A_STEP = 50_000  # more in one step would only take memory
_MAX_KNOWN_GROUPS = 65_536
_SERIES_OF_PROFILE = 8  # at most; more than those of a group
_SPARE_SERIES = 1_000  # room above the bound for the series of OTHER

_NO_PLACE = ("XX", "Unknown")
_DIGITS = {str(number): number for number in range(256)}

Locate = Callable[[str], tuple[str, str]]
_Rows = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that the numbers depend on. Seconds, unless the name says otherwise."""

    tick_seconds: int = 15
    session_window_seconds: int = 7200
    timestamp_offset_ms: int = 0
    backfill_seconds: float = 0
    max_streams: int = 10_000
    max_series: int = 1_000_000


@dataclass(slots=True)
class _Held:
    """What one tick counts so far: what a commit holds already, and what is new since then."""

    groups: dict[Group, list[int]] = field(default_factory=dict)
    rows: list[list[_Rows]] = field(default_factory=lambda: [[] for _ in range(PARTS)])  # by part
    new_groups: dict[Group, list[int]] = field(default_factory=dict)
    new_rows: list[_Rows] = field(default_factory=list)
    _count: int = 0
    _merged: int = 0

    def add_rows(self, rows: _Rows) -> None:
        """Keep rows; when they have become many, each viewer once. Hours of late files all fall into one tick."""
        for part, own in zip(self.rows, split(rows), strict=True):
            if len(own):
                part.append(own)
        self._count += len(rows)
        if self._count > max(ROWS_AS_THEY_COME, self._merged * _MOST_BEFORE_MERGING):
            for part in self.rows:
                part[:] = merge_seen(part) if part else []
            self._count = self._merged = sum(len(own) for part in self.rows for own in part)

    def take_new(self) -> bytes:
        """What is new, encoded; it is in a commit then."""
        rows, self.new_rows = self.new_rows, []
        encoded = msgspec.msgpack.encode((list(self.new_groups.items()), b"".join(part.data for part in rows)))
        self._join_groups()
        return encoded

    def take_groups(self) -> dict[Group, list[int]]:
        """All groups, which are no longer here then."""
        self._join_groups()
        groups, self.groups = self.groups, {}
        return groups

    def take_rows(self) -> Iterator[_Rows]:
        """All rows, part by part, which are no longer here then."""
        self.new_rows = []
        for part in filter(None, self.rows):
            if self._count > ROWS_AS_THEY_COME:
                yield from merge_seen(part)
            else:
                yield np.concatenate(part)
                part.clear()

    def _join_groups(self) -> None:
        for group, sums in self.new_groups.items():
            add_sums(self.groups, group, sums)
        self.new_groups = {}


@dataclass(frozen=True, slots=True)
class Absorbed:
    """What became of a tally: its file's `due` tick, how many of its events were late and by how much at most."""

    due: int
    late: int
    late_seconds: int


class Timeline:
    """The counting state of the whole service; pure, not thread-safe.

    `locate`: country and region of an IP, None without a GeoIP database. `start_ms`: the process's start.
    `key`: the secret that viewers are hashed with, the same for the life of the state.
    """

    def __init__(self, rules: Rules, *, start_ms: int, key: bytes, locate: Locate | None = None) -> None:
        self._rules = rules
        self._tick = rules.tick_seconds
        self._locate = locate
        self._key = key
        self._window = catalogue.window_label(rules.session_window_seconds)
        self.series = SeriesTable(self._tick)
        self._profiles = Profiles()
        self.viewers = ViewerWindow(
            self._profiles, window_seconds=rules.session_window_seconds, tick_seconds=self._tick
        )
        self.streams = Admission(
            max_streams=rules.max_streams, max_series=rules.max_series, series=lambda: len(self.series)
        )
        self._held: dict[int, _Held] = {}
        self._dirty_held: set[int] = set()
        self._addresses = Recent(self._meet, _MAX_KNOWN_IPS)
        self._numbers: dict[tuple[str, str, str, tuple[str, str]], int] = {}  # profile -> its number
        self._groups: dict[Group, int] = {}  # group -> where in `_slots` the three of its series begin
        self._slots = array("q")  # responses, requests, bytes
        self._stream_hashes: dict[str, int] = {}
        self._waits: dict[int, tuple[int, int]] = {}  # slot -> sum (ms) and number of times to first byte
        self.floor = self._after(start_ms / 1000 - rules.backfill_seconds)
        self._first_emission = self.floor + self._tick  # the floor itself carries the zeros
        self.settled = 0
        self.emitted = 0
        self.acknowledged = 0
        self._rewrites = 0
        self._described = 0  # tick with which metadata was last sent
        self._next_request = 1
        self._files: list[CountedFile] = []
        self.overflowed = 0  # series that were asked for over the bound

    def _after(self, seconds: float) -> int:
        """The first tick after an instant (Unix seconds)."""
        return int(seconds // self._tick + 1) * self._tick

    def _at_or_after(self, tick: int) -> int:
        """A tick of an earlier process on this one's grid: TICK_SECONDS may have been changed between them."""
        return -(-tick // self._tick) * self._tick

    @property
    def held_ticks(self) -> int:
        """Ticks that hold something and are not settled."""
        return len(self._held)

    # Taking in

    def absorb(self, file: LogFile, tally: Tally) -> Absorbed:
        """Count a file. Nothing of it is in any sample before the next `advance`."""
        return self.absorb_together([(file, share_of(tally))], tally.ticks)[0]

    def absorb_together(
        self, shares: Iterable[tuple[LogFile, Share]], ticks: Mapping[int, TickTally]
    ) -> list[Absorbed]:
        """Count files that were decoded together: as if each were absorbed, one after the other."""
        for tick, part in sorted(ticks.items()):
            self._hold(max(tick, self.settled + self._tick), part)
        return [self._enter(file, share.requests) for file, share in shares]

    def _enter(self, file: LogFile, requests: Mapping[int, int]) -> Absorbed:
        """Note a file, with its events by tick, for the ledger; it is due when all of them are emitted."""
        due, late, late_seconds = 0, 0, 0
        for tick, count in requests.items():
            counted = max(tick, self.settled + self._tick)
            if counted > tick:
                late += count
                late_seconds = max(late_seconds, counted - tick)
            due = max(due, counted)
        if due:
            due = max(due, self._first_emission, self._after(self.emitted))
        self._files.append(CountedFile(file.key, file.etag, due, file.size, file.modified_ms))
        return Absorbed(due, late, late_seconds)

    def _hold(self, tick: int, part: TickTally) -> None:
        held = self._held.setdefault(tick, _Held())
        self._dirty_held.add(tick)
        groups, new = held.new_groups, []
        for group, sums in part.groups.items():
            own = groups.get(group)
            if own is None:
                new.append((group, sums))
            else:  # its stream was admitted then
                Sums.combine(own, sums)
        self.streams.admit((group[0], group[4]) for group, _ in new)
        name = self.streams.name
        for group, sums in new:
            stream = name(group[0])
            own_group = group
            if stream is OTHER and group[0] != OTHER:
                self.streams.refused += sums[0]
                own_group = (OTHER, *group[1:])
            add_sums(groups, own_group, sums)
            if own_group not in self._groups:
                self._prepare(own_group, sums[3] > 0)
        if part.viewers:
            rows = self._rows(part)
            held.new_rows.append(rows)
            held.add_rows(rows)

    def _prepare(self, group: Group, waited: bool) -> None:
        """Make a new group's series, of which the tick that counts it then need not make thousands at once."""
        if self._has_room():
            self._slots_of(group)
            if waited:
                self._slot(CODE[catalogue.TIME_TO_FIRST_BYTE], group[:4])

    def _prepare_viewers(self, profile: Profile) -> None:
        """The same for the series of a new profile."""
        if self._has_room():
            for code, labels in self._appear_series(profile) + self._present_series(profile):
                self._slot(code, labels)

    def _has_room(self) -> bool:
        return len(self.series) + _SERIES_OF_PROFILE < self._rules.max_series

    def _rows(self, part: TickTally) -> _Rows:
        address, known = self._addresses, self._numbers.get
        names = {seen: self._stream(seen) for seen in {viewer[0] for viewer in part.viewers}}
        hashes, streams, profiles = [], [], []
        for seen, ip, device, country in part.viewers:
            stream, stream_hash = names[seen]
            hashed, place = address(ip)
            hashes.append(hashed)
            streams.append(stream_hash)
            number = known(labels := (stream, device, country, place))
            profiles.append(self._profile(labels) if number is None else number)
        rows = np.empty(len(profiles), SEEN)
        keys = np.array(hashes, np.uint64) ^ np.array(streams, np.uint64)
        rows["key"] = keys * np.uint64(0x9E3779B97F4A7C15) | np.uint64(1)
        rows["profile"] = profiles
        times = np.array(part.viewers.numbers, np.int64).reshape(-1, 2)
        rows["first"], rows["last"] = times[:, 0], times[:, 1]
        return rows

    def _profile(self, labels: tuple[str, str, str, tuple[str, str]]) -> int:
        """The number of a profile that was not seen lately."""
        known = len(self._profiles)
        profile = Profile(*labels)
        number = self._profiles.number(profile)
        if number == known:
            self._prepare_viewers(profile)
        if len(self._numbers) >= _MAX_KNOWN_GROUPS:
            self._numbers.clear()
        self._numbers[labels] = number
        return number

    def _meet(self, ip: str) -> tuple[int, tuple[str, str]]:
        """An address's hash and place."""
        return self._hash(_packed(ip)), self._locate(ip) if self._locate else _NO_PLACE

    def _hash(self, content: bytes) -> int:
        return int.from_bytes(hashlib.blake2b(content, key=self._key, digest_size=8).digest(), "little")

    def _stream(self, seen: str) -> tuple[str, int]:
        """The name under which a stream counts, and its hash."""
        stream = self.streams.name(seen)
        found = self._stream_hashes.get(stream)
        if found is None:
            found = self._stream_hashes[stream] = self._hash(b"stream:" + stream.encode("utf-8", "replace"))
        return stream, found

    def forget_places(self) -> None:
        """The GeoIP database was replaced: viewers that come from now on are looked up again."""
        self._addresses.clear()

    # Settling

    def advance(self, watermark_ms: int, now_ms: int, most_ticks: int = 20) -> tuple[list[Request], bool]:
        """Settle the ticks up to the watermark, but not too many at once: their requests in order, and
        whether there are more ticks to come at once."""
        limit = watermark_ms // 1000 // self._tick * self._tick
        requests: list[Request] = []
        samples = 0
        for _ in range(most_ticks):
            tick = self._next_tick(limit, now_ms)
            if tick is None:
                return requests, False
            self._settle(tick)
            if tick >= self._writable_from(now_ms):
                written = self._emit(tick, now_ms)
                requests += written
                samples += sum(request.samples for request in written)
            if samples >= _SAMPLES_A_STEP:
                break
        return requests, True

    def _writable_from(self, now_ms: int) -> int:
        oldest = now_ms / 1000 - max(FOLD_SECONDS, self._rules.backfill_seconds)
        return max(self._first_emission, self._after(self.emitted), self._after(oldest))

    def _next_tick(self, limit: int, now_ms: int) -> int | None:
        tick = self.settled + self._tick
        writable = self._writable_from(now_ms)
        if tick < writable:  # nothing can be written there, so only ticks that hold something matter
            tick = min((held for held in self._held if held >= tick), default=writable)
            tick = min(tick, writable)
        return tick if tick <= limit else None

    def _settle(self, tick: int) -> None:
        held = self._held.pop(tick, None) or _Held()
        self._count(held.take_groups())
        self._move(self.viewers.advance(tick, held.take_rows()))
        self.settled = tick
        self._dirty_held.discard(tick)

    def _count(self, groups: dict[Group, list[int]]) -> None:
        waits: dict[Group, list[int]] = {}
        slots: list[int] = []
        amounts: list[int] = []
        known, of_groups = self._groups.get, self._slots
        for group, (requests, size, wait_ms, waited) in groups.items():
            at = known(group)
            slots += self._slots_of(group) if at is None else of_groups[at : at + 3]
            amounts += (requests, requests, size)
            if waited:
                total = waits.setdefault((*group[:4], ""), [0, 0])
                total[0] += wait_ms
                total[1] += waited
        self.series.add_all(slots, amounts)
        for group, (wait_ms, waited) in waits.items():
            self._wait(group[:4], wait_ms, waited)

    def _slots_of(self, group: Group) -> tuple[int, int, int]:
        """The slots of a group that was not counted lately."""
        overflowed, where = self.overflowed, group[:4]
        slots = (
            self._slot(CODE[catalogue.RESPONSES], group),
            self._slot(CODE[catalogue.REQUESTS], where),
            self._slot(CODE[catalogue.TRANSFER_BYTES], where),
        )
        if overflowed == self.overflowed:  # else each of its requests is one over the bound
            if len(self._groups) >= _MAX_KNOWN_GROUPS:
                self._groups.clear()
                del self._slots[:]
            self._groups[group] = len(self._slots)
            self._slots.extend(slots)
        return slots

    def _wait(self, where: tuple[str, ...], wait_ms: int, waited: int) -> None:
        """Time to first byte is a mean over all that the next emitted tick counts, so its parts are kept until then."""
        slot = self._slot(CODE[catalogue.TIME_TO_FIRST_BYTE], where)
        before_ms, before = self._waits.get(slot, (0, 0))
        total = self._waits[slot] = (before_ms + wait_ms, before + waited)
        self.series.put(slot, total[0] / total[1])

    def _move(self, movement: Movement) -> None:
        for number, count in movement.appeared.items():
            for code, labels in self._appear_series(self._profiles.all[number]):
                self.series.add(self._slot(code, labels), count)
        for number, delta in movement.present.items():
            if delta:
                for code, labels in self._present_series(self._profiles.all[number]):
                    slot = self._slot(code, labels)
                    self.series.put(slot, self.series.value[slot] + delta)

    def _appear_series(self, profile: Profile) -> list[tuple[int, tuple[str, ...]]]:
        found: list[tuple[int, tuple[str, ...]]] = []
        if profile.place is not None:
            found.append((CODE[catalogue.VIEWERS], (profile.stream,)))
            if self._locate is not None:
                found.append((CODE[catalogue.VIEWERS_BY_REGION], (profile.stream, *profile.place)))
        if profile.device is not None:
            found.append((CODE[catalogue.VIEWERS_BY_DEVICE], (profile.stream, profile.device)))
        if profile.country is not None:
            found.append((CODE[catalogue.VIEWERS_BY_COUNTRY], (profile.stream, profile.country)))
        return found

    def _present_series(self, profile: Profile) -> list[tuple[int, tuple[str, ...]]]:
        found: list[tuple[int, tuple[str, ...]]] = []
        stream, window = profile.stream, self._window
        if profile.place is not None:
            country, region = profile.place
            found.append((CODE[catalogue.ACTIVE_VIEWERS], (stream, window)))
            found.append((CODE[catalogue.ACTIVE_BY_COUNTRY], (stream, country, window)))
            found.append((CODE[catalogue.ACTIVE_BY_REGION], (stream, country, region, window)))
        if profile.device is not None:
            found.append((CODE[catalogue.ACTIVE_BY_DEVICE], (stream, profile.device, window)))
        return found

    def _slot(self, code: int, labels: tuple[str, ...]) -> int:
        """The series' slot; over the bound a new series is counted as one of the stream OTHER."""
        key = series_key(code, labels)
        found = self.series.find(key)
        if found is not None:
            return found
        if len(self.series) >= self._rules.max_series and labels[0] != OTHER:
            self.overflowed += 1
            return self._slot(code, (OTHER, *labels[1:]))
        if len(self.series) >= self._rules.max_series + _SPARE_SERIES:
            names = CATALOGUE[code].labels
            labels = tuple(value if name == "window" else OTHER for name, value in zip(names, labels, strict=True))
            key = series_key(code, labels)
        return self.series.slot(key)

    # Writing

    def _emit(self, tick: int, now_ms: int, rewrite_ms: int = 0) -> list[Request]:
        oldest = now_ms / 1000 - max(_PAD_FOLD_SECONDS, self._rules.backfill_seconds + 300)
        bodies = self.series.emit(
            tick,
            offset_ms=self._rules.timestamp_offset_ms + rewrite_ms,
            pad_from=max(self.floor, self._after(oldest)),
        )
        self._waits.clear()
        self.emitted = tick
        if bodies and tick - self._described >= _METADATA_SECONDS:
            self._described = tick
            bodies.insert(0, (wire.compress(wire.metadata_entries(CATALOGUE)), 0))
        return [self._request(tick, body, samples) for body, samples in bodies]

    def _request(self, tick: int, body: bytes, samples: int) -> Request:
        request = Request(self._next_request, tick, samples, body)
        self._next_request += 1
        return request

    def flush(self, now_ms: int) -> tuple[list[Request], int] | None:
        """Write all that is held onto the next tick: the stop of a process that keeps no state. The requests, and the
        latest tick that they make good: nothing counted is missing in them.

        A tick in the future may be another process's floor, so then the last one is written again, a little later.
        None when nothing was ever emitted and the next tick is still to come: then nothing may be written.
        """
        tick = max(self._writable_from(now_ms), self.settled + self._tick)
        rewrite_ms = 0
        if tick * 1000 + self._rules.timestamp_offset_ms > now_ms:
            if not self.emitted:
                return None
            tick = self.emitted
            self._rewrites += 1
            rewrite_ms = self._rewrites * _REWRITE_MS
        covered = max([tick, self._first_emission, *self._held])
        for held in sorted(self._held):
            self._settle(held)
        return self._emit(tick, now_ms, rewrite_ms), covered

    # State

    def take_changes(
        self, requests: list[Request], watermark_ms: int, shards: Iterable[tuple[str, int, int]]
    ) -> Changes:
        """Everything since the last call, for one atomic commit together with the requests of this step."""
        held = [(tick, self._held[tick].take_new()) for tick in sorted(self._dirty_held)]
        self._dirty_held.clear()
        files, self._files = self._files, []
        meta = {
            "tick_seconds": self._tick,
            "floor": self.floor,
            "first_emission": self._first_emission,
            "settled": self.settled,
            "emitted": self.emitted,
            "next_request": self._next_request,
            "watermark_ms": watermark_ms,
            "viewers_since_ms": (self.settled - self._rules.session_window_seconds) * 1000,
        }
        profiles = [
            (number, profile.stream, profile.device, profile.country, profile.place)
            for number, profile in self._profiles.take_new()
        ]
        new = self.series.take_new()
        return Changes(
            meta=meta,
            profiles=profiles,
            series_new=new,
            series=self.series.take_changes(new),
            pending=self.series.pending(),
            waits=[(slot, *wait) for slot, wait in self._waits.items()],
            viewers=self.viewers.take_changes(),
            held=held,
            held_until=self.settled,
            shards=list(shards),
            files=files,
            requests=requests,
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Go on where an earlier process ended (the timeline must be new)."""
        meta = snapshot.meta
        self.settled = meta["settled"] // self._tick * self._tick
        self.emitted = meta["emitted"]
        self.acknowledged = meta.get("acknowledged", 0)
        self._next_request = meta["next_request"]
        # What was never written is known from the state, so a new series may have its zeros on ticks that the earlier
        # process wrote for others: the floor of padding is that of the first process, the floor of emission is not.
        self.floor = self._at_or_after(meta["floor"])
        self._first_emission = max(self.floor + self._tick, self._at_or_after(meta["first_emission"]))
        if self.emitted:
            self._first_emission = self._after(self.emitted)
        self._profiles.restore(
            Profile(stream, device, country, place) for _, stream, device, country, place in snapshot.profiles
        )
        self.series.restore(snapshot.series, snapshot.pending, self.emitted)
        self._waits = {slot: (wait_ms, waited) for slot, wait_ms, waited in snapshot.waits}
        self.viewers.restore(snapshot.viewer_runs, self.settled * 1000)
        for tick, encoded in snapshot.held:
            self._restore_held(self._at_or_after(tick), encoded)
        self.streams.restore(self.series.streams())
        self._correct_gauges()

    def _restore_held(self, tick: int, encoded: bytes) -> None:
        groups, rows = msgspec.msgpack.decode(encoded, type=tuple[list[tuple[Group, list[int]]], bytes])
        held = self._held.setdefault(max(tick, self.settled + self._tick), _Held())
        for group, sums in groups:
            add_sums(held.groups, group, sums)
        if rows:
            held.add_rows(np.frombuffer(rows, SEEN))
        self.streams.restore(group[0] for group, _ in groups)

    def _correct_gauges(self) -> None:
        """Set the window gauges to what the restored windows hold: the session window may have been changed."""
        counts: dict[int, int] = {}
        for number, count in self.viewers.present():
            for code, labels in self._present_series(self._profiles.all[number]):
                slot = self._slot(code, labels)
                counts[slot] = counts.get(slot, 0) + count
        for slot, value in self.series.windows():
            right = counts.pop(slot, 0)
            if value != right:
                self.series.put(slot, right)
        for slot, value in counts.items():
            self.series.put(slot, value)


def _packed(ip: str) -> bytes:
    """An address's bytes."""
    parts = ip.split(".")
    if len(parts) == 4:
        try:
            return bytes([_DIGITS[part] for part in parts])  # several times as fast as what is right for all
        except KeyError:
            pass
    return ipaddress.ip_address(ip).packed

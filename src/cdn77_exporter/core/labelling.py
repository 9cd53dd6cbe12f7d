"""From the texts of a file to series: which groups and viewers a row is of, found with arrays.

A text that is new gets a number, a group of labels that is new gets a *cell*, which knows the slots of its series, and
a viewer's labels that are new get a profile. What was seen before costs a search in an array.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from cdn77_exporter.core.admission import OTHER, Admission, AdmittedValues
from cdn77_exporter.core.audiences import Audience, profile_of, values_of
from cdn77_exporter.core.catalogue import Catalogue, series_key, split_key
from cdn77_exporter.core.columns import Viewers, sum_by
from cdn77_exporter.core.keys import Codes, RowTable, Vocabulary
from cdn77_exporter.core.keys import Places as Numbers
from cdn77_exporter.core.label_sets import LabelSets
from cdn77_exporter.core.measures import (
    PROFILE,
    STATUS,
    STREAM,
    ByBucket,
    Label,
    Measure,
    Measures,
    OfViewers,
    Present,
    Source,
    Window,
    window_label,
)
from cdn77_exporter.core.open_ticks import OpenTick
from cdn77_exporter.core.places import VERSIONS, Locate, Places, is_version_4
from cdn77_exporter.core.scan.addresses import hash_addresses
from cdn77_exporter.core.series import SeriesTable
from cdn77_exporter.core.slots import LATER, NONE, Cells, ProfileSlots, Slots, ViewerMeasure
from cdn77_exporter.core.viewers.profiles import Profile, Profiles
from cdn77_exporter.core.viewers.rows import SEEN
from cdn77_exporter.core.viewers.window import Lengths

_SPARE_SERIES = 1_000  # room above the bound for the series of OTHER
#: Series that a tick may begin: this part of the bound, but no fewer than can begin in no time. Each costs 21 samples.
_SHARE_NEW, _FEW_NEW = 10, 10_000
_LEAST_NEW = 1_000  # that a file may begin, as long as there is room
_SPARE_CELLS = 65_536  # cells above the bound of series, of which each series is counted as one of OTHER
_FIRST_TEXTS = 20_000  # before those that nothing names any more are looked for
_FIRST_PROFILES = 20_000  # before those that no viewer has any more are looked for
_FREE_SECONDS = 3600  # after which they are, so that values of labels are free again
_BOUNDED = (Source.FIELD, Source.TRACK)  # labels whose values are anybody's
_NOT_TOLD = (Source.WINDOW, Source.CONSTANT, Source.BUCKET)  # labels whose values are no log's
_BUCKETS_BELOW_0 = 1 << 20  # more than there are
_ODD = np.uint64(0x9E3779B97F4A7C15)
Hashes = npt.NDArray[np.uint64]

_NO_CODES: Codes = np.zeros(0, np.uint32)


class Labelling:
    """Finds cells and profiles, and makes the series of new ones.

    `key`: the secret that addresses and streams are hashed with. Over `max_series` a new series is one of OTHER, over
    `max_label_values` a new value of a label is OTHER.
    """

    def __init__(
        self,
        measures: Measures,
        catalogue: Catalogue,
        series: SeriesTable,
        profiles: Profiles,
        streams: Admission,
        *,
        key: bytes,
        locate: Locate | None,
        lengths: Lengths,
        max_series: int,
        max_label_values: int,
    ) -> None:
        self._catalogue = catalogue
        self._series = series
        self._profiles = profiles
        self._streams = streams
        self._key = key
        self._lengths = lengths
        self._max_series = max_series
        self.vocabulary = Vocabulary()
        self._other = self.vocabulary.code(OTHER)
        self._places = Places(locate, self.vocabulary)
        # What a stream's requests were answered with counts for its admission, where a metric tells it.
        tells = any(STATUS in cube.labels for cube in measures.cubes)
        self._status = self._other if tells else self.vocabulary.code("200")
        self._cells = [Cells(cube) for cube in measures.cubes]
        self._measures = measures
        self._choose_measures()
        self._audiences = [Audience(labels, measures.limit_of(labels)) for labels in measures.audiences[1:]]
        self._viewer_rows = RowTable(6)  # stream, device, country; country and region of the place; address version
        self._numbers: npt.NDArray[np.uint32] = np.zeros(0, np.uint32)  # profile of each of these rows
        self._admitted: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)  # by text
        self._stream_hashes: Hashes = np.zeros(0, np.uint64)  # by text; 0 before it is asked for
        self._lingering: set[str] = set()  # streams that have no series, and viewers
        self._tidy_at = _FIRST_TEXTS
        self._free_at = _FIRST_PROFILES
        self._not_freed_seconds = 0
        labels = {label for cube in measures.cubes for label in cube.labels}.union(*measures.audiences)
        self._values = {label: AdmittedValues(max_label_values) for label in labels if label.source in _BOUNDED}
        self._max_label_values = max_label_values
        self.most_new = max(max_series // _SHARE_NEW, _FEW_NEW)
        self._series_before = 0  # series when a tick was last written
        self._new_refused = [0 for _ in self._cells]  # requests with a group that is one of too many new ones, by cube
        self.overflowed = 0  # series that were asked for over the bound
        self.limited = 0  # requests that count as OTHER in a measure with a limit
        self._values_refused: dict[tuple[str, int], int] = {}  # by what has the labels: a cube, viewers, an audience

    def codes(self, texts: Iterable[str]) -> Codes:
        """Return the numbers of texts [texts]."""
        return self.vocabulary.codes(texts)

    def _choose_measures(self) -> None:
        """Take the measures of viewers that can be told now, and have the series of all profiles found anew."""
        found: dict[tuple[Label, ...], list[ViewerMeasure]] = {}
        for row in self._measures.of_viewers:
            if (self._places.known or not row.needs_places) and not isinstance(row.value, ByBucket):
                told = tuple(label for label in row.by if label.source not in _NOT_TOLD)
                found.setdefault(told, []).extend(self._each_window(row))
        #: The measures of viewers, those that are told by the same labels together.
        self.of_viewers = [ProfileSlots(labels, measures) for labels, measures in found.items()]
        #: The others, whose series are buckets of native histograms.
        self.by_bucket = [row for row in self._measures.of_viewers if isinstance(row.value, ByBucket)]

    def _each_window(self, measure: Measure) -> list[ViewerMeasure]:
        if not isinstance(measure.value, Present):
            return [ViewerMeasure(measure)]
        active = measure.value.window is Window.ACTIVE
        return [
            ViewerMeasure(measure, length) for length in (self._lengths.active if active else (self._lengths.presence,))
        ]

    def use_places(self, locate: Locate) -> None:
        """Ask this database for the place of every address from now on; it may be the first one."""
        first = not self._places.known
        self._places.use(locate)
        if first:
            self._choose_measures()

    # Cells

    def cells(self, cube: int, labels: Codes, sums: npt.NDArray[np.int64]) -> Numbers:
        """Return the cell of each group [rows] of a cube; `labels` [rows, labels], `sums` [rows, columns]."""
        cells = self._cells[cube]
        if cells.stream is not None:
            labels = self._admit(cells, labels, sums, first=cube == 0)
        labels = self._bound(cells.cube.labels, labels, sums[:, 0], ("cube", cube))
        numbers, known = cells.table.find(labels)
        if not known.all():
            rows, inverse = np.unique(labels[~known], axis=0, return_inverse=True)
            requests = np.bincount(inverse.ravel(), sums[~known, 0], len(rows)).astype(np.int64)
            if cells.sets is None:
                new = self._new_cells(cells, rows, requests)
            else:
                new = self._limited_cells(cells, cells.sets, rows, requests)
            numbers[~known] = new[inverse.ravel()]
        if cells.sets is not None:
            cells.sets.saw(numbers, sums[:, 0])
        return numbers

    def _limited_cells(self, cells: Cells, sets: LabelSets, rows: Codes, requests: npt.NDArray[np.int64]) -> Numbers:
        """Make cells for groups [rows] as `_new_cells` does; over the limit they are one of OTHER."""
        refused = sets.refuse(rows, requests, self._other)
        numbers = np.zeros(len(rows), np.int64)
        if not refused.all():
            numbers[~refused] = self._new_cells(cells, rows[~refused], requests[~refused])
        if refused.any():
            self.limited += int(requests[refused].sum())
            others = rows[refused]
            others[:, sets.own] = self._other
            others, inverse = np.unique(others, axis=0, return_inverse=True)
            found, known = cells.table.find(others)
            if not known.all():
                found[~known] = self._make_cells(cells, others[~known])
            numbers[refused] = found[inverse.ravel()]
        return numbers

    def _admit(self, cells: Cells, labels: Codes, sums: npt.NDArray[np.int64], *, first: bool) -> Codes:
        """Return the labels with OTHER for every stream that does not count under its own name."""
        self._room_for_texts()
        streams = labels[:, cells.stream]
        unknown = ~self._admitted[streams]
        if not unknown.any():
            return labels
        texts = self.vocabulary.texts
        statuses = labels[:, cells.status] if cells.status is not None else np.full(len(labels), self._status)
        pairs = np.unique(np.stack((streams[unknown], statuses[unknown])), axis=1).T.tolist()
        self._streams.admit((texts[stream], texts[status]) for stream, status in pairs)
        self._note_admitted(stream for stream, _ in pairs)
        refused = ~self._admitted[streams]
        if refused.any():
            labels = labels.copy()
            labels[refused, cells.stream] = self._other
            if first:
                self._streams.refused += int(sums[refused, 0].sum())
        return labels

    @property
    def new_refused(self) -> int:
        """Requests with a group that is counted as OTHER since too many are new at once, where that is so for most."""
        return max(self._new_refused, default=0)

    @property
    def values_refused(self) -> int:
        """Requests with a label whose value is counted as OTHER, where that is so for most."""
        return max(self._values_refused.values(), default=0)

    def _bound(
        self, names: Sequence[Label], labels: Codes, requests: npt.NDArray[np.int64], of: tuple[str, int]
    ) -> Codes:
        """Return the labels with OTHER for every value that is one too many; `requests` [rows]; `of`: what has them."""
        self._room_for_texts()
        refused = {}
        for place, name in enumerate(names):
            values = self._values.get(name)
            rows = values.refuse(labels[:, place], requests) if values else np.zeros(0, np.bool_)
            if rows.any():
                refused[place] = rows
        if not refused:
            return labels
        labels = labels.copy()
        for place, rows in refused.items():
            labels[rows, place] = self._other
        found = int(requests[np.any(list(refused.values()), axis=0)].sum())
        self._values_refused[of] = self._values_refused.get(of, 0) + found
        return labels

    def restore_label_sets(self) -> None:
        """Take up the label sets of measures with a limit that the restored series have."""
        limited = {
            self._catalogue.code(measure): (cells, place)
            for cells in self._cells
            if cells.sets is not None
            for place, measure in enumerate(cells.cube.measures)
        }
        rows: dict[Cells, set[tuple[str, ...]]] = {}
        for key in self._series.keys() if limited else ():
            code, values = split_key(key)
            if code in limited:
                cells, place = limited[code]
                own = dict(zip(cells.cube.measures[place].by, values, strict=True))
                rows.setdefault(cells, set()).add(tuple(own[label] for label in cells.cube.labels))
        for cells, texts in rows.items():
            numbers = self._make_cells(cells, np.array([self.vocabulary.codes(row) for row in sorted(texts)]))
            if cells.sets is not None:
                cells.sets.take_up(numbers)

    def restore_values(self) -> None:
        """Admit the labels' values that the restored series have; so few that all fit need not be looked at."""
        if len(self._series) <= self._max_label_values // 2:
            return
        found: dict[Label, set[str]] = {}
        for key in self._series.keys():  # noqa: SIM118 - it is no dictionary
            code, values = split_key(key)
            measure = self._catalogue.measure(code)
            for label, value in zip(measure.by if measure else (), values, strict=False):
                found.setdefault(label, set()).add(value)
        for label, own in self._values.items():
            codes = self.vocabulary.codes(found.get(label, ()))
            self._room_for_texts()
            own.known[codes] = True

    def _free_values(self, held: Mapping[str, Codes] | None = None) -> None:
        """Free the place of values that no cell and no profile has any more.

        `held`: by label, what the profiles of audiences have; without it those of their labels are left as they are.
        """
        self._room_for_texts()
        of_audiences = {label for audience in self._audiences for label in audience.labels}
        for label, own in self._values.items():
            if held is None and label in of_audiences:
                continue
            used = np.zeros(len(own.known), np.bool_)
            used[(held or {}).get(label.name, _NO_CODES)] = True
            for cells in self._cells:
                if label in cells.cube.labels:
                    used[cells.table.rows[cells.table.numbers(), cells.cube.labels.index(label)]] = True
            if label in PROFILE:
                used[self._viewer_rows.rows[self._viewer_rows.numbers(), PROFILE.index(label)]] = True
            own.known &= used

    def _note_admitted(self, streams: Iterable[int]) -> None:
        texts, name = self.vocabulary.texts, self._streams.name
        for stream in streams:
            self._admitted[stream] = name(texts[stream]) == texts[stream]

    def restore_streams(self, cube: int, labels: Codes) -> None:
        """Take up the streams of groups that an earlier process has counted."""
        cells = self._cells[cube]
        if cells.stream is not None:
            texts = self.vocabulary.texts
            self._streams.restore(texts[code] for code in np.unique(labels[:, cells.stream]).tolist())

    def _new_cells(self, cells: Cells, rows: Codes, requests: npt.NDArray[np.int64]) -> Numbers:
        """Make cells, and their series, for groups [rows] that are different and have none; return their numbers."""
        if len(cells.table) + len(rows) > self._max_series + _SPARE_CELLS:
            return self._within_bounds(cells, rows)
        room = self.most_new - (len(self._series) - self._series_before)
        if not cells.cube.measures or len(rows) * len(cells.cube.measures) <= room:
            return self._make_cells(cells, rows)
        # The half of the room, so that what comes after a flood finds some, too.
        chosen = self._choose(cells, rows, requests, max(room // 2, min(room, _LEAST_NEW)))
        numbers = np.empty(len(rows), np.int64)
        if chosen.any():
            numbers[chosen] = self._make_cells(cells, rows[chosen])
        if not chosen.all():
            numbers[~chosen] = self._folded(cells, rows[~chosen])
            self._new_refused[self._cells.index(cells)] += int(requests[~chosen].sum())
        return numbers

    def _choose(self, cells: Cells, rows: Codes, requests: npt.NDArray[np.int64], room: int) -> npt.NDArray[np.bool_]:
        """Choose groups [rows] that may begin series, so many that no more than `room` begin.

        Those whose series are there already may in any case. Each stream's first one has precedence over the second of
        others, and so on; those of most requests are the first.
        """
        chosen = np.zeros(len(rows), np.bool_)
        widest = max(range(len(cells.places)), key=lambda place: len(cells.places[place]))
        code, texts_of = self._catalogue.code(cells.cube.measures[widest]), cells.texts[widest]
        for place, row in enumerate(rows.tolist()):
            chosen[place] = self._series.find(series_key(code, texts_of(self.vocabulary.named(row)))) is not None
        left = np.flatnonzero(~chosen)
        streams = rows[left, cells.stream] if cells.stream is not None else np.zeros(len(left), np.uint32)
        order = np.lexsort((-requests[left], streams))
        ordered = streams[order]
        begins = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(left) else order
        rank = np.empty(len(left), np.int64)
        rank[order] = np.arange(len(left)) - np.repeat(begins, np.diff(np.append(begins, len(left))))
        left = left[np.lexsort((-requests[left], rank))]
        begun = np.ones(len(left), np.int64)  # series that each begins, beside those that one before it does
        for number, own in enumerate(cells.places):
            if number != widest:
                _, at = np.unique(rows[left][:, own], axis=0, return_index=True)
                begun[at] += 1
        chosen[left[np.cumsum(begun) <= room]] = True
        return chosen

    def _folded(self, cells: Cells, rows: Codes) -> Numbers:
        """Count groups [rows] as those that have OTHER for every label that has many values: by stream, so to say."""
        rows = rows.copy()
        for place, label in enumerate(cells.cube.labels):
            if label in self._values:
                rows[:, place] = self._other
        folded, inverse = np.unique(rows, axis=0, return_inverse=True)
        numbers, known = cells.table.find(folded)
        if not known.all():
            numbers[~known] = self._make_cells(cells, folded[~known])
        return numbers[inverse.ravel()]

    def emitted(self) -> None:
        """Let as many series begin again as one tick may: it was written."""
        self._series_before = len(self._series)

    def _make_cells(self, cells: Cells, rows: Codes) -> Numbers:
        slots = []
        for row in rows.tolist():
            texts = self.vocabulary.named(row)
            slots.append(
                [
                    LATER if measure.is_rare else self.slot(measure, texts_of(texts))
                    for measure, texts_of in zip(cells.cube.measures, cells.texts, strict=True)
                ]
            )
        return cells.add(rows, slots)

    def _within_bounds(self, cells: Cells, rows: Codes) -> Numbers:
        """Count groups that no memory is kept for together: all labels are OTHER but that of a histogram's bucket, and
        the stream, of which there are not too many, and by which viewers are counted, too."""
        self.overflowed += len(rows)
        rows = rows.copy()
        rows[:, [label.source not in (Source.BUCKET, Source.STREAM) for label in cells.cube.labels]] = self._other
        numbers, known = cells.table.find(rows)
        if not known.all():
            new, inverse = np.unique(rows[~known], axis=0, return_inverse=True)
            slots = []
            for row in new.tolist():
                texts = self.vocabulary.named(row)
                pairs = zip(cells.cube.measures, cells.texts, strict=True)
                slots.append([self.slot(measure, texts_of(texts)) for measure, texts_of in pairs])
            numbers[~known] = cells.add(new, slots)[inverse.ravel()]
        return numbers

    def slots_of_cells(self, cube: int, measure: int, cells: Numbers) -> Slots:
        """Return the slots [cells] of a measure of a cube, which are made where they are not there yet."""
        own = self._cells[cube]
        if isinstance(own.cube.measures[measure].value, OfViewers):
            return self._slots_of_viewers(own, own.cube.measures[measure], cells)
        slots = own.slots[:, measure]
        later = np.unique(cells[slots[cells] == LATER])
        for cell in later.tolist():
            texts = self.vocabulary.named(own.table.rows[cell].tolist())
            slots[cell] = self.slot(own.cube.measures[measure], own.texts[measure](texts))
        return slots[cells]

    def _slots_of_viewers(self, cells: Cells, measure: Measure, numbers: Numbers) -> Slots:
        """Return the slots [numbers] of a measure by stream that events and viewers tell together: the same for both.

        Over the bound a series is one of OTHER from when it is first asked for, which must not be asked twice.
        """
        own = next(own for own in self.of_viewers if any(row.measure is measure for row in own.measures))
        place = next(place for place, row in enumerate(own.measures) if row.measure is measure)
        streams = cells.table.rows[numbers, cells.cube.labels.index(STREAM)].astype(np.int64)
        different, which = _distinct(streams, len(self.vocabulary))
        values = [(stream,) for stream in self.vocabulary.named(different.tolist())]
        found: Slots = own.of_values(values, self._slot_of_values)[which, place]
        return found

    def rows_of_cells(self) -> list[Codes]:
        """Return the labels of every cell, by cube."""
        return [cells.table.rows for cells in self._cells]

    def slot(self, measure: Measure, values: Sequence[str]) -> int:
        """Return the series' slot; over the bound a new series is counted as one of the stream OTHER."""
        code = self._catalogue.code(measure)
        key = series_key(code, values)
        found = self._series.find(key)
        if found is not None:
            return found
        metric = self._catalogue.metric(code)
        if metric is not None and metric.native and self._series.wholes.find(metric.whole(values)):
            return self._series.slot(key)  # one more part of what is there
        by_stream = bool(measure.by) and measure.by[0] == STREAM
        if self._series.cost >= self._max_series and by_stream and values[0] != OTHER:
            self.overflowed += 1
            return self.slot(measure, (OTHER, *values[1:]))
        if self._series.cost >= self._max_series + _SPARE_SERIES:
            pairs = zip(measure.by, values, strict=True)
            key = series_key(code, [text if label.source in _NOT_TOLD else OTHER for label, text in pairs])
        return self._series.slot(key)

    def successor(self, slot: int) -> int | None:
        """Return the slot in which the series of a former metric goes on; None when the metric is no longer sent."""
        code, values = split_key(self._series.key(slot))
        metric = self._catalogue.metric(code)
        measure = self._catalogue.successor(metric) if metric else None
        if metric is None or measure is None:
            return None
        own = dict(zip(metric.labels, values, strict=True))
        return self.slot(measure, [own.get(label.name, label.missing) for label in measure.by])

    # Viewers

    def hashes(self, addresses: bytes) -> Hashes:
        """Return the keyed hashes of packed addresses [addresses]."""
        return hash_addresses(addresses, self._key)

    def viewers(self, profiles: Codes, addresses: bytes, hashes: Hashes, seen: Viewers) -> npt.NDArray[np.void]:
        """Return rows of `SEEN`; `profiles` [profiles, 3] by text: stream, device, country."""
        self._room_for_texts()
        streams = profiles[:, 0]
        self._note_admitted(np.unique(streams[~self._admitted[streams]]).tolist())
        streams = np.where(self._admitted[streams], streams, np.uint32(self._other))
        profiles = self._bound(PROFILE, profiles, np.bincount(seen.profiles, minlength=len(profiles)), ("audience", 0))
        rows = np.empty(len(seen), SEEN)
        rows["key"] = (hashes[seen.addresses] ^ self._hashes_of(streams)[seen.profiles]) * _ODD | np.uint64(1)
        rows["profile"] = self._profiles_of(np.column_stack((streams, profiles[:, 1:])), addresses, hashes, seen)
        rows["first"], rows["last"] = seen.first, seen.last
        return rows

    def audience(self, number: int, labels: Codes, hashes: Hashes, seen: Viewers) -> npt.NDArray[np.void]:
        """Return rows of `SEEN` of an audience beyond the first; `labels` [profiles, labels] by text."""
        audience = self._audiences[number - 1]
        requests = np.bincount(seen.profiles, minlength=len(labels))
        self._room_for_texts()
        if audience.stream is not None:
            labels = labels.copy()
            streams = labels[:, audience.stream]
            self._note_admitted(np.unique(streams[~self._admitted[streams]]).tolist())
            labels[:, audience.stream] = np.where(self._admitted[streams], streams, np.uint32(self._other))
        labels = self._bound(audience.labels, labels, requests, ("audience", number))
        labels = self._limited_labels(audience, labels, requests)
        kinds, kind = np.unique(labels, axis=0, return_inverse=True)
        found = [self._profile_of_audience(audience, tuple(row)) for row in kinds.tolist()]
        numbers, keys = (np.array(column, np.uint64)[kind.ravel()] for column in zip(*found, strict=True))
        rows = np.empty(len(seen), SEEN)
        rows["key"] = (hashes[seen.addresses] ^ keys[seen.profiles]) * _ODD | np.uint64(1)
        rows["profile"] = numbers[seen.profiles]
        rows["first"], rows["last"] = seen.first, seen.last
        return rows

    def _profile_of_audience(self, audience: Audience, row: tuple[int, ...]) -> tuple[int, int]:
        """Return the number of the profile of a label set, and its hash."""
        found = audience.known.get(row)
        if found is None:
            profile = profile_of(audience.labels, self.vocabulary.named(row))
            found = audience.known[row] = self._profiles.number(profile), self._hash_of(profile)
        return found

    def _limited_labels(self, audience: Audience, labels: Codes, requests: npt.NDArray[np.int64]) -> Codes:
        """Return the labels [profiles, labels] with OTHER in label sets over the audience's limit."""
        if audience.sets is None:
            return labels
        numbers, known = audience.table.find(labels)
        if not known.all():
            rows, inverse = np.unique(labels[~known], axis=0, return_inverse=True)
            refused = audience.sets.refuse(rows, sum_by(inverse.ravel(), requests[~known, None])[1][:, 0], self._other)
            if not refused.all():
                audience.table.add(rows[~refused])
            others = np.flatnonzero(~known)[refused[inverse.ravel()]]
            labels = labels.copy()
            for place in audience.sets.own:
                labels[others, place] = self._other
            numbers, known = audience.table.find(labels)
        audience.sets.saw(numbers[known], requests[known])
        return labels

    def _hash_of(self, profile: Profile) -> int:
        content = f"audience:{profile.device}:{profile.country}".encode("utf-8", "replace")
        return int.from_bytes(hashlib.blake2b(content, key=self._key, digest_size=8).digest(), "little")

    def _profiles_of(self, profiles: Codes, addresses: bytes, hashes: Hashes, seen: Viewers) -> npt.NDArray[np.uint32]:
        """Return the profile of each row [rows], whose place and version are those of its address."""
        kinds, kind = self._kinds(addresses, hashes)
        pairs, inverse = _distinct(
            seen.profiles.astype(np.int64) * len(kinds) + kind[seen.addresses], len(profiles) * len(kinds)
        )
        return self._numbers_of(np.column_stack((profiles[pairs // len(kinds)], kinds[pairs % len(kinds)])))[inverse]

    def _kinds(self, addresses: bytes, hashes: Hashes) -> tuple[Codes, Numbers]:
        """Return the places and versions that addresses have [kinds, 3], and which of them each has [addresses]."""
        is_4 = is_version_4(addresses)
        places = self._places.codes(addresses, hashes)
        if self._places.known:
            places, kind = np.unique(places, axis=0, return_inverse=True)
            kind = kind.ravel()
        else:
            places, kind = places[:1], np.zeros(len(hashes), np.int64)
        versions = np.tile(self.vocabulary.codes(VERSIONS), len(places))
        return np.column_stack((places.repeat(2, axis=0), versions)), kind * 2 + ~is_4

    def _numbers_of(self, rows: Codes) -> npt.NDArray[np.uint32]:
        """Return the profile of each row [rows, 6] of labels."""
        numbers, known = self._viewer_rows.find(rows)
        if not known.all():
            new, inverse = np.unique(rows[~known], axis=0, return_inverse=True)
            added = self._viewer_rows.add(new)
            if self._viewer_rows.end > len(self._numbers):
                more = len(self._viewer_rows.rows) - len(self._numbers)
                self._numbers = np.append(self._numbers, np.zeros(more, np.uint32))
            for number, row in zip(added.tolist(), new.tolist(), strict=True):
                stream, device, country, *place, version = self.vocabulary.named(row)
                profile = Profile(stream, device, country, (place[0], place[1]), version)
                self._numbers[number] = self._profiles.number(profile)
            self._prepare(self._numbers[added])
            numbers[~known] = added[inverse.ravel()]
        return self._numbers[numbers]

    def _prepare(self, numbers: npt.NDArray[np.uint32]) -> None:
        """Make the series of new profiles, of which the tick that counts them then need not make thousands at once."""
        if self._series.cost + len(numbers) * sum(len(own.measures) for own in self.of_viewers) < self._max_series:
            for own in self.of_viewers:
                self.slots_of_profiles(own, numbers.astype(np.int64))

    def slots_of_profiles(self, own: ProfileSlots, profiles: Numbers) -> Slots:
        """Return the slots [profiles, measures] of viewers' measures; NONE where there is no series."""
        return own.find(profiles, self._values_of_profile, self._slot_of_values)

    def slots_of_buckets(self, measure: Measure, profiles: Numbers, buckets: Numbers) -> Slots:
        """Return the slots [observations] of a native histogram's buckets for profiles with these bucket numbers."""
        pairs = profiles << 32 | (buckets + _BUCKETS_BELOW_0)
        different, which = np.unique(pairs, return_inverse=True)
        slots = np.full(len(different), NONE)
        for place, pair in enumerate(different.tolist()):
            values = self._values_of_profile(pair >> 32, measure.told[:-1])
            if values is not None:
                slots[place] = self.slot(measure, (*values, str((pair & 0xFFFFFFFF) - _BUCKETS_BELOW_0)))
        found: Slots = slots[which]
        return found[found >= 0]

    def _values_of_profile(self, number: int, labels: tuple[Label, ...]) -> tuple[str, ...] | None:
        """Return what a profile has for labels; None if it does not count by them."""
        profile = self._profiles[number]
        of_audience = values_of(profile)
        if (of_audience is None) == any(labels == audience.labels for audience in self._audiences):
            return None
        if of_audience is not None:
            return tuple(of_audience.values()) if [*of_audience] == [label.name for label in labels] else None
        values = tuple(value for label in labels if (value := _value(label, profile)) is not None)
        # A facet counts in the measures of what it is a facet of; the viewer itself counts in the others.
        if len(values) < len(labels) or (profile.is_facet and not any(label != STREAM for label in labels)):
            return None
        return values

    def _slot_of_values(self, own: ViewerMeasure, values: tuple[str, ...]) -> int:
        """Return the slot of a measure for the values of the labels that viewers tell."""
        told = iter(values)
        measure = own.measure
        return self.slot(measure, [self._text(label, own.length) or next(told) for label in measure.by])

    def _text(self, label: Label, length: int) -> str:
        """Return the text of a label that no viewer tells, empty for others."""
        return window_label(length) if label.source is Source.WINDOW else label.text

    def _hashes_of(self, streams: Codes) -> npt.NDArray[np.uint64]:
        for code in np.unique(streams[self._stream_hashes[streams] == 0]).tolist():
            content = b"stream:" + self.vocabulary.texts[code].encode("utf-8", "replace")
            digest = hashlib.blake2b(content, key=self._key, digest_size=8).digest()
            self._stream_hashes[code] = int.from_bytes(digest, "little")
        return self._stream_hashes[streams]

    # Forgetting

    def forget(self, slots: Slots, streams: set[str], opened: Iterable[OpenTick], kept: Callable[[], set[int]]) -> None:
        """Forget what names series that are gone, and streams that have none left, unless something counts them.

        `kept`: the profiles that viewers have.
        """
        if not len(slots):
            return
        opened = list(opened)
        gone = np.zeros(self._series.end, np.bool_)
        gone[slots] = True
        for number, cells in enumerate(self._cells):
            cells.forget(gone, (part for tick in opened for part in tick.cells(number)))
        for own in self.of_viewers:
            own.forget(gone)
        streams = (streams | self._lingering) - self._series.streams()
        if streams:
            held = {self._profiles[number].stream for number in kept()}
            self._lingering = streams & held
            self._forget_streams(streams - held, opened)
        self._free_values()

    def pass_time(self, seconds: int, opened: Sequence[OpenTick]) -> None:
        """Let label sets of measures with a limit give their places to those that have become busier."""
        self._not_freed_seconds += seconds
        for number, cells in enumerate(self._cells):
            if cells.sets is not None:
                cells.sets.pass_time(seconds)
                counted = (part for tick in opened for part in tick.cells(number))
                self._series.end_series(cells.displace(counted, self._other))
        for audience in self._audiences:
            if audience.sets is not None:
                audience.sets.pass_time(seconds)
                numbers = audience.table.numbers().astype(np.int64)
                audience.forget(numbers[audience.sets.quiet(numbers)])
                audience.forget(audience.sets.displace(numbers[:0], self._other))

    def _forget_streams(self, streams: set[str], opened: Sequence[OpenTick]) -> None:
        streams = streams - self._counted_streams(opened)
        self._streams.forget(streams)
        codes = self.vocabulary.codes(streams)
        self._room_for_texts()
        self._admitted[codes] = False
        self._forget_profiles(self._profiles.forget_streams(streams))

    def _forget_profiles(self, gone: list[int]) -> None:
        rows = self._viewer_rows.numbers()
        self._viewer_rows.remove(rows[np.isin(self._numbers[rows], gone)])
        for own in self.of_viewers:
            own.forget_profiles(gone)
        self._forget_known()

    def _forget_known(self) -> None:
        """Ask again which profiles audiences have: some numbers of profiles or texts are others now."""
        for audience in self._audiences:
            audience.known = {}

    def _counted_streams(self, opened: Iterable[OpenTick]) -> set[str]:
        texts = self.vocabulary.texts
        found = set()
        for tick in opened:
            found |= {self._profiles[number].stream for number in tick.profiles()}
            for number, cells in enumerate(self._cells):
                if cells.stream is not None:
                    for part in tick.cells(number):
                        found |= {texts[code] for code in np.unique(cells.table.rows[part, cells.stream]).tolist()}
        return found

    # Texts

    def _room_for_texts(self) -> None:
        more = len(self.vocabulary) - len(self._admitted)
        if more > 0:
            more = max(more, len(self._admitted) // 4)
            self._admitted = np.append(self._admitted, np.zeros(more, np.bool_))
            self._stream_hashes = np.append(self._stream_hashes, np.zeros(more, np.uint64))
            for values in self._values.values():
                values.reach(len(self._admitted))

    def tidy(self, opened: Sequence[OpenTick], kept: Callable[[], set[int]]) -> None:
        """Forget what nothing has or names any more, when it has become much.

        `kept`: the profiles that viewers have.
        """
        if len(self._profiles) >= self._free_at or (self._audiences and self._not_freed_seconds >= _FREE_SECONDS):
            self._free_profiles(opened, kept())
        if len(self.vocabulary) >= self._tidy_at:
            self._free_texts()

    def _free_profiles(self, opened: Sequence[OpenTick], kept: set[int]) -> None:
        self._forget_profiles(self._profiles.keep(kept.union(*(tick.profiles() for tick in opened))))
        self._free_at = max(_FIRST_PROFILES, 2 * len(self._profiles))
        self._not_freed_seconds = 0
        held: dict[str, set[str]] = {}
        for profile in self._profiles.all if self._audiences else ():
            for name, text in ((profile and values_of(profile)) or {}).items():
                held.setdefault(name, set()).add(text)
        self._free_values({name: self.vocabulary.codes(texts) for name, texts in held.items()})

    def _free_texts(self) -> None:
        self._room_for_texts()
        count = len(self.vocabulary)
        used = np.zeros(count, np.bool_)
        used[[self._other, self._status]] = True
        for values in self._values.values():
            used |= values.known[:count]
        tables = [cells.table for cells in self._cells] + [own.table for own in self._audiences] + [self._viewer_rows]
        for table in tables:
            used[table.rows[table.numbers()]] = True
        new = self.vocabulary.keep(used)
        for table in tables:
            table.recode(new)
        self._other, self._status = int(new[self._other]), int(new[self._status])
        self._admitted = self._admitted[:count][used]
        self._stream_hashes = self._stream_hashes[:count][used]
        for values in self._values.values():
            values.known = values.known[:count][used]
        self._places.forget()
        self._forget_known()
        for sets in [*(cells.sets for cells in self._cells), *(own.sets for own in self._audiences)]:
            if sets is not None:
                sets.forget_waiting()
        self._tidy_at = max(_FIRST_TEXTS, 2 * len(self.vocabulary))


def _distinct(numbers: Numbers, end: int) -> tuple[Numbers, Numbers]:
    """Return the different ones of numbers below `end`, ascending, and which of them each is."""
    if end > 4 * len(numbers):
        return np.unique(numbers, return_inverse=True)
    there = np.zeros(end, np.bool_)
    there[numbers] = True
    return np.flatnonzero(there), (np.cumsum(there) - 1)[numbers]


def _value(label: Label, profile: Profile) -> str | None:
    """Return what a profile has for a label; None where it has none."""
    match label.source:
        case Source.STREAM:
            return profile.stream
        case Source.DEVICE:
            return profile.device
        case Source.COUNTRY_OF_PLACE:
            return profile.place[0] if profile.place else None
        case Source.REGION_OF_PLACE:
            return profile.place[1] if profile.place else None
        case Source.IP_VERSION:
            return profile.version
    return profile.country

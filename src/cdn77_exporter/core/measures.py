"""The table of what is counted: a row for each metric, from a line's field to the name and help that a receiver gets.

Everything else follows from the rows: the fields that decoding reads, the sums that it keeps, the series, the columns
of the state, the documentation. A `Measures` table can be made of other rows than the built-in ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from functools import cached_property

from cdn77_exporter.core.fields import FIELDS


class Kind(StrEnum):
    """The behaviour of a metric's value; the words are those of the Prometheus exposition format."""

    COUNTER = "counter"
    GAUGE = "gauge"
    SUMMARY = "summary"
    HISTOGRAM = "histogram"


# Labels


class Source(StrEnum):
    """The origin of a label's value."""

    FIELD = "field"  # of the line, as it stands there
    STREAM = "stream"  # the stream's name in the request path
    TRACK = "track"  # the track's name in the request path
    DEVICE = "device"  # the device type of the User-Agent
    IP_VERSION = "ip version"  # of the client address: 4 or 6
    BUCKET = "bucket"  # the native histogram bucket of a number, of which `per` are one unit; none for 0
    CONSTANT = "constant"  # the same text always
    COUNTRY_OF_PLACE = "country of the place"  # of the client address, by the GeoIP database
    REGION_OF_PLACE = "region of the place"  # the same
    WINDOW = "window"  # the length of the window


@dataclass(frozen=True, slots=True)
class Label:
    """A label: its name, and where its value comes from.

    `missing` stands for a missing or empty field. An event that has nothing for a `required` label is not counted by
    it. `text`: of a constant.
    """

    name: str
    source: Source
    field: str = ""  # of the line
    missing: str = ""
    required: bool = False
    text: str = ""
    per: int = 1


STREAM = Label("stream_name", Source.STREAM, "clientRequestPath")
CDN = Label("cdn_id", Source.FIELD, "resourceID", "0")
CACHE = Label("cache_status", Source.FIELD, "cacheStatus", "UNKNOWN")
#: Cache states in which the answer came from the cache and the viewer did not wait for the origin: fresh (HIT), still
#: good when the origin was asked (REVALIDATED), or old while the origin is asked (UPDATING) or is away (STALE). With
#: EXPIRED the cache had it once, but the origin sent it anew, as with MISS.
FROM_CACHE = ("HIT", "REVALIDATED", "STALE", "UPDATING")
POP = Label("pop", Source.FIELD, "locationID", "unknown")
TRACK = Label("track", Source.TRACK, "clientRequestPath", required=True)
IP_VERSION = Label("ip_version", Source.IP_VERSION, "clientIP", "unknown")
STATUS = Label("response_status", Source.FIELD, "responseStatus", "0")
DEVICE = Label("device_type", Source.DEVICE, "clientRequestUserAgent", "other")
COUNTRY = Label("country", Source.FIELD, "clientCountry", "XX")
PLACE_COUNTRY = Label("country", Source.COUNTRY_OF_PLACE, "clientIP", "XX")
PLACE_REGION = Label("region", Source.REGION_OF_PLACE, "clientIP", "Unknown")
WINDOW = Label("window", Source.WINDOW)

#: The label that tells the parts of a native histogram apart, and is never sent: the number of a bucket, or `SUM`.
PART = "__part__"
SUM = "sum"

#: What a viewer's series are labelled with, as far as a line tells it.
PROFILE = (STREAM, DEVICE, COUNTRY)
# What follows from the viewer's address is not told by a line.
_OF_ADDRESS = (Source.COUNTRY_OF_PLACE, Source.REGION_OF_PLACE, Source.IP_VERSION)


# Values


class Add(StrEnum):
    """The part of an event that is added to a column of sums."""

    ONE = "one"  # 1
    VALUE = "value"  # the field's value
    ONE_IF_POSITIVE = "one if positive"  # 1 when the field's value is above 0
    ONE_IF_AT_MOST = "one if at most"  # 1 when it is above 0, and not above `most`


#: Fields and what they must hold: a text, a number, true or false. An address holds true if it is one.
Where = tuple[tuple[str, str | int | bool], ...]
#: Of requests with a client address, which are those of a viewer.
HAS_VIEWER: Where = (("clientIP", True),)


@dataclass(frozen=True, slots=True)
class Column:
    """A sum over events, or over those `where` all fields hold what is asked for."""

    add: Add
    field: str = ""
    most: int = 0
    where: Where = ()

    @property
    def name(self) -> str:
        """Its name in the state, such as `one`, `value:responseBytes`, `one:clientRequestCompleted=False`."""
        most = (f"<={self.most}",) if self.most else ()
        conditions = (f"{field}={value!r}" for field, value in self.where)
        return ":".join((self.add.value, *((self.field,) if self.field else ()), *most, *conditions))


@dataclass(frozen=True, slots=True)
class Events:
    """Counts events, or those `where` all fields hold what is asked for."""

    where: Where = ()

    @property
    def columns(self) -> tuple[Column, ...]:
        """The number of events."""
        return (Column(Add.ONE, where=self.where),)


@dataclass(frozen=True, slots=True)
class Sum:
    """Adds up a field; `per` of its units are one of the metric's."""

    field: str
    per: int = 1
    where: Where = ()

    @property
    def columns(self) -> tuple[Column, ...]:
        """The field's sum."""
        return (Column(Add.VALUE, self.field, where=self.where),)


@dataclass(frozen=True, slots=True)
class Observations:
    """Counts events whose field is above 0, and not above `most` unless that is 0."""

    field: str
    most: int = 0
    where: Where = ()

    @property
    def columns(self) -> tuple[Column, ...]:
        """The number of the field's values that are."""
        add = Add.ONE_IF_AT_MOST if self.most else Add.ONE_IF_POSITIVE
        return (Column(add, self.field, self.most, self.where),)


@dataclass(frozen=True, slots=True)
class Mean:
    """Takes the mean of a field's values above 0, of the events of one tick."""

    field: str

    @property
    def columns(self) -> tuple[Column, ...]:
        """The field's sum, and how many values are above 0."""
        return (Column(Add.VALUE, self.field), Column(Add.ONE_IF_POSITIVE, self.field))


@dataclass(frozen=True, slots=True)
class Appeared:
    """Counts viewers that were not in their session window, by what they are labelled with."""


class Window(StrEnum):
    """The windows whose viewers are told."""

    ACTIVE = "active"  # the session window and those of ACTIVE_WINDOWS, each with its label `window`
    PRESENCE = "presence"  # who is watching now


@dataclass(frozen=True, slots=True)
class Present:
    """Tells how many viewers a window holds, by what they are labelled with."""

    window: Window = Window.ACTIVE


@dataclass(frozen=True, slots=True)
class Watched:
    """Adds up how long players are present, in milliseconds."""


@dataclass(frozen=True, slots=True)
class SessionsBegun:
    """Counts sessions of players that began."""


@dataclass(frozen=True, slots=True)
class SessionsOver:
    """Counts sessions of players that are over, those whose watch time is at most `most_ms` unless that is None."""

    most_ms: int | None = None


@dataclass(frozen=True, slots=True)
class SessionsOverWatched:
    """Adds up the watch time of sessions that are over, in milliseconds."""


@dataclass(frozen=True, slots=True)
class SessionsOverInBucket:
    """Counts sessions of players that are over, by the native histogram bucket of their watch time."""


@dataclass(frozen=True, slots=True)
class Returned:
    """Counts requests of viewers whose last one was at most `most_ms` before; all of them if that is None.

    Events tell how many requests there are, and viewers of how many it was longer ago.
    """

    most_ms: int | None = None
    where: Where = HAS_VIEWER

    @property
    def columns(self) -> tuple[Column, ...]:
        """The number of requests."""
        return (Column(Add.ONE, where=self.where),)


@dataclass(frozen=True, slots=True)
class ReturnedInBucket:
    """Counts requests of viewers whose last one was more than `over_ms` before, by the native histogram bucket of the
    time since then."""

    over_ms: int


@dataclass(frozen=True, slots=True)
class ReturnedAfter:
    """Adds up the time since their last one of requests of viewers, in milliseconds."""


OfEvents = Events | Sum | Observations | Mean | Returned
OfPlayers = Watched | SessionsBegun | SessionsOver | SessionsOverWatched | SessionsOverInBucket
OfViewers = Appeared | Present | OfPlayers | Returned | ReturnedInBucket | ReturnedAfter
#: What viewers tell by the number of a native histogram's bucket.
ByBucket = SessionsOverInBucket | ReturnedInBucket


@dataclass(frozen=True, slots=True)
class Family:
    """The unit of metadata and documentation: one or several metrics under one name, with one type and one help."""

    name: str
    kind: Kind
    help: str


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric: how it adds up, and by which labels; `labels` in the order in which a series key holds their values.

    `queries`: what it answers, in words and in PromQL. `part_of`: the family that it is a part of, as of a histogram.
    `native`: its series are the parts of native histograms, which the last label tells apart.
    """

    name: str
    value: OfEvents | OfViewers
    by: tuple[Label, ...]
    help: str
    queries: tuple[tuple[str, str], ...] = ()
    needs_places: bool = False  # it is not produced without a GeoIP database
    part_of: Family | None = None
    limit: int = 0  # label sets that count on their own; 0 for all
    native: bool = False

    @property
    def kind(self) -> Kind:
        """Counter or gauge."""
        return Kind.GAUGE if isinstance(self.value, Mean | Present) else Kind.COUNTER

    @property
    def family(self) -> Family:
        """The family that it belongs to; most metrics are all of their family."""
        return self.part_of or Family(self.name, self.kind, self.help)

    @property
    def per(self) -> int:
        """The number of counted units that make one of the metric's."""
        if isinstance(self.value, Watched | SessionsOverWatched | ReturnedAfter):
            return 1000
        return self.value.per if isinstance(self.value, Sum) else 1

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels' names."""
        return tuple(label.name for label in self.by)

    @property
    def constants(self) -> tuple[tuple[str, str], ...]:
        """The labels that are always the same, with their texts: they tell rows of one name apart."""
        return tuple((label.name, label.text) for label in self.by if label.source is Source.CONSTANT)

    @property
    def told(self) -> tuple[Label, ...]:
        """The labels that a line or a viewer tells."""
        return tuple(label for label in self.by if label.source is not Source.CONSTANT)

    @property
    def is_rare(self) -> bool:
        """True if only some groups have it: its series are made when there is something to count."""
        return isinstance(self.value, Mean) or bool(getattr(self.value, "where", ()))


@dataclass(frozen=True, slots=True)
class Cube:
    """Sums that are kept by the same labels, for all measures whose labels are among these.

    `limit`: the groups that count on their own, 0 for all; then its measures all have its labels and that limit.
    `columns[number]` of the sums is what `measures[...]` takes by its own columns.
    """

    labels: tuple[Label, ...]
    columns: tuple[Column, ...]
    measures: tuple[Measure, ...]
    limit: int = 0

    def places(self, measure: Measure) -> tuple[int, ...]:
        """Return where a measure's own columns stand."""
        return tuple(self.columns.index(column) for column in _columns(measure))


class Measures:
    """The table of measures, and what follows from its rows."""

    def __init__(self, rows: Iterable[Measure]) -> None:
        self.rows = tuple(rows)
        names = [(row.name, row.constants) for row in self.rows]
        if len(set(names)) < len(names):
            raise ValueError(f"two measures have one name: {sorted(name for name, _ in names)}")
        if len({(row.name, row.labels) for row in self.rows}) > len({row.name for row in self.rows}):
            raise ValueError("two measures have one name, and other labels")
        unknown = self._fields() - FIELDS.keys()
        if unknown:
            raise ValueError(f"no line has these fields: {sorted(unknown)}")

    def _fields(self) -> set[str]:
        columns = [column for cube in self.cubes for column in cube.columns]
        fields = {label.field for row in self.rows for label in row.by} | {column.field for column in columns}
        return (fields | {field for column in columns for field, _ in column.where}) - {""}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Measures) and self.rows == other.rows

    def __hash__(self) -> int:
        return hash(self.rows)

    def __reduce__(self) -> tuple[Callable[[tuple[Measure, ...]], Measures], tuple[tuple[Measure, ...]]]:
        return _checked, (self.rows,)  # what follows from the rows is not sent to other processes

    def named(self, name: str) -> Measure | None:
        """Return the row of a name, if there is one."""
        return next((row for row in self.rows if row.name == name), None)

    def without(self, names: Iterable[str], labels: Iterable[Label]) -> Measures:
        """Return a table without metrics, or all of families, of these names, and without these labels."""
        names, labels = set(names), set(labels)
        kept = (row for row in self.rows if not {row.name, row.family.name} & names)
        return Measures(replace(row, by=tuple(label for label in row.by if label not in labels)) for row in kept)

    @cached_property
    def cubes(self) -> tuple[Cube, ...]:
        """The groupings of events that decoding keeps: as few as hold the labels of every measure of events."""
        of_events = [row for row in self.rows if isinstance(row.value, OfEvents)]
        found: list[tuple[tuple[Label, ...], int, list[Measure]]] = []
        if not any(row.told for row in of_events):
            found.append(((STREAM,), 0, []))  # a file's events are counted all the same
        for row in sorted(of_events, key=lambda row: -len(row.told)):
            for labels, limit, members in found:
                # An event without a label that the grouping requires is not in it, so others cannot be told from it.
                needed = {label for label in labels if label.required}
                fits = row.told == labels if limit else needed <= set(row.told) <= set(labels)
                if fits and row.limit == limit:
                    members.append(row)
                    break
            else:
                found.append((row.told, row.limit, [row]))
        # The first is asked for what holds of all events: which streams they are of, and how these have answered.
        found.sort(key=lambda entry: (STREAM not in entry[0], STATUS not in entry[0], entry[1] > 0))
        return tuple(self._cube(*entry) for entry in found)

    def _cube(self, labels: tuple[Label, ...], limit: int, members: list[Measure]) -> Cube:
        members = sorted(members, key=self.rows.index)
        # Every cube counts its events, which tells how many a file had and how many were late.
        columns = dict.fromkeys((Column(Add.ONE), *(column for row in members for column in _columns(row))))
        return Cube(labels, tuple(columns), tuple(members), limit)

    def limit_of(self, audience: tuple[Label, ...]) -> int:
        """Return the label sets of an audience that count on their own; 0 for all."""
        return _limit_of(row for row in self.of_viewers if audience_of(row) == audience)

    def cube_of(self, measure: Measure) -> tuple[int, Cube]:
        """Return the cube that holds a measure of events, and its number among all."""
        return next((number, cube) for number, cube in enumerate(self.cubes) if measure in cube.measures)

    @cached_property
    def of_viewers(self) -> tuple[Measure, ...]:
        """The measures of viewers."""
        return tuple(row for row in self.rows if isinstance(row.value, OfViewers))

    @cached_property
    def audiences(self) -> tuple[tuple[Label, ...], ...]:
        """The labels by which decoding tells viewers apart: `PROFILE` first, then those that go beyond it."""
        beyond = (audience_of(row) for row in self.of_viewers)
        return (PROFILE, *dict.fromkeys(labels for labels in beyond if labels != PROFILE))


def _limit_of(rows: Iterable[Measure]) -> int:
    limits = [row.limit for row in rows]
    return 0 if 0 in limits else max(limits, default=0)


def _checked(rows: tuple[Measure, ...]) -> Measures:
    """Return a table of rows that one was made of before, in another process: each call there brings its own."""
    table = Measures.__new__(Measures)
    table.rows = rows
    return table


def audience_of(measure: Measure) -> tuple[Label, ...]:
    """Return the labels that decoding tells the viewers of a measure apart by."""
    own = tuple(label for label in measure.told if label.source not in (Source.WINDOW, Source.BUCKET))
    known = all(label in PROFILE or label.source in _OF_ADDRESS for label in own)
    return PROFILE if known else own


def _columns(row: Measure) -> tuple[Column, ...]:
    return row.value.columns if isinstance(row.value, OfEvents) else ()


def summary(
    name: str, field: str, per: int, by: tuple[Label, ...], text: str, queries: tuple[tuple[str, str], ...] = ()
) -> tuple[Measure, Measure]:
    """Return the sum and the count of a field's values above 0, of which `per` units are one of the metric's."""
    return _sum_and_count(Family(name, Kind.SUMMARY, text), field, per, by, queries)


def histogram(
    name: str,
    field: str,
    per: int,
    by: tuple[Label, ...],
    text: str,
    buckets: Sequence[str],
    queries: tuple[tuple[str, str], ...] = (),
    where: Where = (),
) -> tuple[Measure, ...]:
    """Return the same with how many values are not above each of `buckets`, which are decimal numbers in order."""
    family = Family(name, Kind.HISTOGRAM, text)
    rows = [
        Measure(f"{name}_bucket", Observations(field, most, where), (*by, bound(bucket)), text, part_of=family)
        for bucket, most in ((bucket, int(Decimal(bucket) * per)) for bucket in buckets)
    ]
    endless = Measure(f"{name}_bucket", Observations(field, where=where), (*by, bound("+Inf")), text, part_of=family)
    return (*rows, endless, *_sum_and_count(family, field, per, by, queries, where))


def native_histogram(
    name: str, field: str, per: int, by: tuple[Label, ...], text: str, queries: tuple[tuple[str, str], ...] = ()
) -> tuple[Measure, Measure]:
    """Return the buckets and the sum of a native histogram of a field's values above 0."""
    family = Family(name, Kind.HISTOGRAM, text)
    bucket = Label(PART, Source.BUCKET, field, required=True, per=per)
    total = Label(PART, Source.CONSTANT, text=SUM)
    return (
        Measure(name, Observations(field), (*by, bucket), text, queries, part_of=family, native=True),
        Measure(name, Sum(field, per), (*by, total), text, part_of=family, native=True),
    )


def bound(text: str) -> Label:
    """Return the label of a histogram's bucket that says up to where it counts."""
    return Label("le", Source.CONSTANT, text=text)


def _sum_and_count(
    family: Family,
    field: str,
    per: int,
    by: tuple[Label, ...],
    queries: tuple[tuple[str, str], ...],
    where: Where = (),
) -> tuple[Measure, Measure]:
    return (
        Measure(f"{family.name}_sum", Sum(field, per, where), by, family.help, queries, part_of=family),
        Measure(f"{family.name}_count", Observations(field, where=where), by, family.help, part_of=family),
    )


# The rows

_WHERE = (STREAM, CDN, CACHE, POP)

TRANSFER_BYTES = Measure(
    "cdn77_transfer_bytes_total",
    Sum("responseBytes"),
    _WHERE,
    "Bytes sent to clients.",
    (
        ("bandwidth in bits per second", "sum by (stream_name) (rate(cdn77_transfer_bytes_total[5m] offset 90s)) * 8"),
        ("bytes in five minutes", "sum(increase(cdn77_transfer_bytes_total[5m] offset 90s))"),
        ("bandwidth by POP", "sum by (pop) (rate(cdn77_transfer_bytes_total[5m] offset 90s)) * 8"),
    ),
)

REQUESTS = Measure(
    "cdn77_requests_total",
    Events(),
    _WHERE,
    "Requests answered.",
    (
        ("requests per second", "sum by (stream_name) (rate(cdn77_requests_total[5m] offset 90s))"),
        ("requests in an hour", "sum by (stream_name) (increase(cdn77_requests_total[1h] offset 90s))"),
        ("requests by cache status", "sum by (cache_status) (rate(cdn77_requests_total[5m] offset 90s))"),
        (
            "cache hit ratio",
            f'sum(rate(cdn77_requests_total{{cache_status=~"{"|".join(FROM_CACHE)}"}}[5m] offset 90s))'
            " / sum(rate(cdn77_requests_total[5m] offset 90s))",
        ),
    ),
)

RESPONSES = Measure(
    "cdn77_responses_total",
    Events(),
    (*_WHERE, STATUS),
    "Requests answered, by HTTP status.",
    (
        ("4xx per second", 'sum(rate(cdn77_responses_total{response_status=~"4.."}[5m] offset 90s))'),
        (
            "success ratio",
            'sum(rate(cdn77_responses_total{response_status=~"2..|3.."}[5m] offset 90s))'
            " / sum(rate(cdn77_responses_total[5m] offset 90s))",
        ),
    ),
)

VIEWERS = Measure(
    "cdn77_viewers_total",
    Appeared(),
    (STREAM,),
    "Viewers (client IPs) that appeared on the stream and were not in its session window.",
    (("new viewers per hour", "sum by (stream_name) (increase(cdn77_viewers_total[1h] offset 90s))"),),
)

VIEWERS_BY_DEVICE = Measure(
    "cdn77_viewers_by_device_total",
    Appeared(),
    (STREAM, DEVICE),
    "Viewers that appeared, by device type.",
    (("viewers by device", "sum by (device_type) (increase(cdn77_viewers_by_device_total[1h] offset 90s))"),),
)

VIEWERS_BY_COUNTRY = Measure(
    "cdn77_viewers_by_country_total",
    Appeared(),
    (STREAM, COUNTRY),
    "Viewers that appeared, by the country that the log names.",
    (("top countries", "topk(10, sum by (country) (increase(cdn77_viewers_by_country_total[1h] offset 90s)))"),),
)

VIEWERS_BY_REGION = Measure(
    "cdn77_viewers_by_region_total",
    Appeared(),
    (STREAM, PLACE_COUNTRY, PLACE_REGION),
    "Viewers that appeared, by country and region of the GeoIP database; absent without one.",
    (
        (
            "viewers by state",
            'sum by (region) (increase(cdn77_viewers_by_region_total{country="US"}[1h] offset 90s))',
        ),
    ),
    needs_places=True,
)

ACTIVE_VIEWERS = Measure(
    "cdn77_active_viewers",
    Present(),
    (STREAM, WINDOW),
    "Distinct viewers with a request in the window.",
    (
        ("viewers in the window", "sum by (stream_name, window) (cdn77_active_viewers offset 90s)"),
        ("their peak in three hours", "max_over_time(cdn77_active_viewers[3h] offset 90s)"),
        ("their average in an hour", "avg_over_time(cdn77_active_viewers[1h] offset 90s)"),
    ),
)

ACTIVE_BY_DEVICE = Measure(
    "cdn77_active_viewers_by_device",
    Present(),
    (STREAM, DEVICE, WINDOW),
    "Distinct viewers in the window, by device type.",
    (("by device", "sum by (device_type, window) (cdn77_active_viewers_by_device offset 90s)"),),
)

ACTIVE_BY_COUNTRY = Measure(
    "cdn77_active_viewers_by_country",
    Present(),
    (STREAM, PLACE_COUNTRY, WINDOW),
    "Distinct viewers in the window, by country of the GeoIP database (XX without one).",
    (("by country", "topk by (window) (10, sum by (country, window) (cdn77_active_viewers_by_country offset 90s))"),),
)

ACTIVE_BY_REGION = Measure(
    "cdn77_active_viewers_by_region",
    Present(),
    (STREAM, PLACE_COUNTRY, PLACE_REGION, WINDOW),
    "Distinct viewers in the window, by country and region of the GeoIP database (XX, Unknown without one).",
    (
        (
            "by state",
            'sum by (region, window) (cdn77_active_viewers_by_region{country="US"} offset 90s)',
        ),
    ),
)

ACTIVE_BY_TRACK = Measure(
    "cdn77_active_viewers_by_track",
    Present(),
    (STREAM, TRACK, WINDOW),
    "Distinct viewers in the window, by the track in the path: one who has played two tracks counts in both.",
    (("viewers of each track", "sum by (track, window) (cdn77_active_viewers_by_track offset 90s)"),),
)

ACTIVE_BY_IP_VERSION = Measure(
    "cdn77_active_viewers_by_ip_version",
    Present(),
    (STREAM, IP_VERSION, WINDOW),
    "Distinct viewers in the window, by the version of their IP address.",
    (
        (
            "share of viewers with IPv6",
            'sum by (window) (cdn77_active_viewers_by_ip_version{ip_version="6"} offset 90s)'
            " / sum by (window) (cdn77_active_viewers offset 90s)",
        ),
    ),
)

_PLAYER = (STREAM, DEVICE)

CONCURRENT_VIEWERS = Measure(
    "cdn77_concurrent_viewers",
    Present(Window.PRESENCE),
    _PLAYER,
    "Players (a client IP and a device type on a stream) that are watching: with a request in the last "
    "PRESENCE_SECONDS (30).",
    (
        ("viewers now", "sum by (stream_name) (cdn77_concurrent_viewers offset 90s)"),
        ("viewers now by device", "sum by (device_type) (cdn77_concurrent_viewers offset 90s)"),
        (
            "the most at once in three hours",
            "max_over_time(sum by (stream_name) (cdn77_concurrent_viewers offset 90s)[3h:15s])",
        ),
    ),
)

WATCH_SECONDS = Measure(
    "cdn77_watch_seconds_total",
    Watched(),
    _PLAYER,
    "Seconds that players were watching: from each request to PRESENCE_SECONDS (30) after it, no second twice.",
    (
        ("viewers on average", "sum by (stream_name) (rate(cdn77_watch_seconds_total[5m] offset 90s))"),
        ("hours watched in an hour", "sum(increase(cdn77_watch_seconds_total[1h] offset 90s)) / 3600"),
        (
            "bits per second that a viewer gets",
            "8 * sum by (stream_name) (rate(cdn77_transfer_bytes_total[5m] offset 90s))"
            " / sum by (stream_name) (rate(cdn77_watch_seconds_total[5m] offset 90s))",
        ),
    ),
)

SESSIONS = Measure(
    "cdn77_sessions_total",
    SessionsBegun(),
    _PLAYER,
    "Sessions that began: runs of requests of a player, no two further apart than SESSION_GAP_SECONDS (120).",
    (("sessions that began in an hour", "sum by (stream_name) (increase(cdn77_sessions_total[1h] offset 90s))"),),
)

_SESSION_WATCH = Family(
    "cdn77_session_watch_seconds",
    Kind.HISTOGRAM,
    "Watch time of sessions that are over: SESSION_GAP_SECONDS (120) after their last request.",
)
_SESSION_BOUNDS = (60, 180, 300, 600, 1200, 1800, 3600, 7200)

_SESSION_QUERIES = (
    (
        "mean watch time of a session",
        "sum by (stream_name) (increase(cdn77_session_watch_seconds_sum[1h] offset 90s))"
        " / sum by (stream_name) (increase(cdn77_session_watch_seconds_count[1h] offset 90s))",
    ),
)
_SESSION_BUCKET_QUERIES = (
    (
        "median watch time of a session",
        "histogram_quantile(0.5, sum by (le) (increase(cdn77_session_watch_seconds_bucket[1h] offset 90s)))",
    ),
    (
        "share of sessions of at most a minute",
        'sum(increase(cdn77_session_watch_seconds_bucket{le="60"}[1h] offset 90s))'
        " / sum(increase(cdn77_session_watch_seconds_count[1h] offset 90s))",
    ),
)
_SESSION_SUM_AND_COUNT = (
    Measure(
        f"{_SESSION_WATCH.name}_sum",
        SessionsOverWatched(),
        _PLAYER,
        _SESSION_WATCH.help,
        _SESSION_QUERIES,
        part_of=_SESSION_WATCH,
    ),
    Measure(f"{_SESSION_WATCH.name}_count", SessionsOver(), _PLAYER, _SESSION_WATCH.help, part_of=_SESSION_WATCH),
)

_SESSION_BUCKETS = tuple(
    Measure(
        f"{_SESSION_WATCH.name}_bucket",
        SessionsOver(most and most * 1000),
        (*_PLAYER, bound(str(most or "+Inf"))),
        _SESSION_WATCH.help,
        () if most else _SESSION_BUCKET_QUERIES,
        part_of=_SESSION_WATCH,
    )
    for most in (*_SESSION_BOUNDS, None)
)
_SESSION_PARTS = (
    Measure(
        _SESSION_WATCH.name,
        SessionsOverInBucket(),
        (*_PLAYER, Label(PART, Source.BUCKET, required=True, per=1000)),
        _SESSION_WATCH.help,
        (
            (
                "median watch time of a session",
                "histogram_quantile(0.5, sum(increase(cdn77_session_watch_seconds[1h] offset 90s)))",
            ),
            (
                "share of sessions of at most a minute",
                "histogram_fraction(0, 60, sum(increase(cdn77_session_watch_seconds[1h] offset 90s)))",
            ),
        ),
        part_of=_SESSION_WATCH,
        native=True,
    ),
    Measure(
        _SESSION_WATCH.name,
        SessionsOverWatched(),
        (*_PLAYER, Label(PART, Source.CONSTANT, text=SUM)),
        _SESSION_WATCH.help,
        part_of=_SESSION_WATCH,
        native=True,
    ),
)


def session_watch(histograms: Histograms) -> tuple[Measure, ...]:
    """Return the rows of the sessions' watch times: a classic histogram, or a native one beside its sum and count."""
    parts = _SESSION_PARTS if histograms is Histograms.NATIVE else _SESSION_BUCKETS
    return (*parts, *_SESSION_SUM_AND_COUNT)


TIME_TO_FIRST_BYTE = Measure(
    "cdn77_time_to_first_byte_ms",
    Mean("timeToFirstByteMs"),
    _WHERE,
    "Mean time to first byte of the tick's requests, in milliseconds; no sample for a tick without any.",
    (("the slowest groups of a tick", "topk(10, cdn77_time_to_first_byte_ms offset 90s)"),),
)

_MEAN_BY_POP = (
    "mean time to first byte by POP",
    "sum by (pop) (rate(cdn77_time_to_first_byte_seconds_sum[5m] offset 90s))"
    " / sum by (pop) (rate(cdn77_time_to_first_byte_seconds_count[5m] offset 90s))",
)
_TIMES = (
    "cdn77_time_to_first_byte_seconds",
    "timeToFirstByteMs",
    1000,
    _WHERE,
    "Times to first byte, in seconds, of the requests that tell one.",
)

TIMES_TO_FIRST_BYTE = summary(*_TIMES, (_MEAN_BY_POP,))

REQUESTS_BY_TRACK = Measure(
    "cdn77_requests_by_track_total",
    Events(),
    (STREAM, TRACK),
    "Requests answered, by the track in the path; those without one are left out.",
    (
        (
            "requests per second by track",
            "sum by (track) (rate(cdn77_requests_by_track_total[5m] offset 90s))",
        ),
    ),
)

BYTES_BY_TRACK = Measure(
    "cdn77_transfer_bytes_by_track_total",
    Sum("responseBytes"),
    (STREAM, TRACK),
    "Bytes sent to clients, by the track in the path; those without one are left out.",
    (
        (
            "share of each track in the bandwidth",
            "sum by (track) (rate(cdn77_transfer_bytes_by_track_total[5m] offset 90s))"
            " / ignoring (track) group_left sum(rate(cdn77_transfer_bytes_by_track_total[5m] offset 90s))",
        ),
    ),
)


def _incomplete(reason: str, field: str, value: bool, queries: tuple[tuple[str, str], ...] = ()) -> Measure:
    return Measure(
        "cdn77_incomplete_requests_total",
        Events(((field, value),)),
        (STREAM, CDN, POP, Label("reason", Source.CONSTANT, text=reason)),
        "Requests that the client broke off (aborted), or whose connection timed out (timeout).",
        queries,
    )


INCOMPLETE_REQUESTS = (
    _incomplete(
        "aborted",
        "clientRequestCompleted",
        False,
        (
            (
                "incomplete requests per second by POP",
                "sum by (pop, reason) (rate(cdn77_incomplete_requests_total[5m] offset 90s))",
            ),
        ),
    ),
    _incomplete("timeout", "clientRequestConnTimeout", True),
)


class Histograms(StrEnum):
    """The way in which the distributions of a request's times are sent."""

    OFF = "off"
    CLASSIC = "classic"
    NATIVE = "native"


#: The bounds of classic histograms of a request's times, in seconds.
BOUNDS = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10")

_DURATIONS = (
    "cdn77_request_duration_seconds",
    "requestTimeMs",
    1000,
    _WHERE,
    "How long requests took, in seconds, of those that tell it.",
)
_ROUND_TRIPS = (
    "cdn77_tcp_rtt_seconds",
    "tcpRTTus",
    1_000_000,
    _WHERE,
    "Round-trip times of connections, in seconds, of the requests that tell one.",
)


def _quantile(name: str, what: str) -> tuple[str, str]:
    rates = f"sum by (le, pop) (rate({name}_bucket[5m] offset 90s))"
    return (f"95th percentile of the {what} by POP", f"histogram_quantile(0.95, {rates})")


_CLASSIC = (
    *histogram(*_TIMES, BOUNDS, (_MEAN_BY_POP, _quantile(_TIMES[0], "time to first byte"))),
    *histogram(*_DURATIONS, BOUNDS, (_quantile(_DURATIONS[0], "duration"),)),
    *histogram(*_ROUND_TRIPS, BOUNDS, (_quantile(_ROUND_TRIPS[0], "round-trip time"),)),
)


def _native_quantile(name: str, what: str) -> tuple[str, str]:
    rates = f"sum by (pop) (rate({name}[5m] offset 90s))"
    return (f"95th percentile of the {what} by POP", f"histogram_quantile(0.95, {rates})")


_NATIVE = (
    *native_histogram(*_TIMES, (_native_quantile(_TIMES[0], "time to first byte"),)),
    # Beside it, since what asks for means asks for them.
    *_sum_and_count(Family(_TIMES[0], Kind.HISTOGRAM, _TIMES[4]), *_TIMES[1:4], (_MEAN_BY_POP,)),
    *native_histogram(*_DURATIONS, (_native_quantile(_DURATIONS[0], "duration"),)),
    *native_histogram(*_ROUND_TRIPS, (_native_quantile(_ROUND_TRIPS[0], "round-trip time"),)),
)
_TIMES_BY_KIND: dict[Histograms, tuple[Measure, ...]] = {
    Histograms.OFF: TIMES_TO_FIRST_BYTE,
    Histograms.CLASSIC: _CLASSIC,
    Histograms.NATIVE: _NATIVE,
}


def built_in(histograms: Histograms = Histograms.OFF) -> Measures:
    """Return the table of every built-in metric, with the distributions of times as they are asked for."""
    return Measures(
        (
            TRANSFER_BYTES,
            REQUESTS,
            RESPONSES,
            VIEWERS,
            VIEWERS_BY_DEVICE,
            VIEWERS_BY_COUNTRY,
            VIEWERS_BY_REGION,
            ACTIVE_VIEWERS,
            ACTIVE_BY_DEVICE,
            ACTIVE_BY_COUNTRY,
            ACTIVE_BY_REGION,
            ACTIVE_BY_TRACK,
            ACTIVE_BY_IP_VERSION,
            CONCURRENT_VIEWERS,
            WATCH_SECONDS,
            SESSIONS,
            *session_watch(histograms),
            TIME_TO_FIRST_BYTE,
            *_TIMES_BY_KIND[histograms],
            REQUESTS_BY_TRACK,
            BYTES_BY_TRACK,
            *INCOMPLETE_REQUESTS,
        )
    )


#: The table of the default settings.
MEASURES = built_in()


def window_label(seconds: int) -> str:
    """Return a window as a label value, in the largest unit that divides it: `2h`, `90m`, `45s`."""
    for unit, length in (("h", 3600), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"

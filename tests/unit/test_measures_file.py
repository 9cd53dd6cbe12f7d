"""A file of measures: what it may hold, what is wrong with it, and what its metrics count."""

from __future__ import annotations

import gzip
import json
import pickle
import subprocess
import tomllib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from cdn77_exporter import settings
from cdn77_exporter.core import labelling
from cdn77_exporter.core.catalogue import split_key
from cdn77_exporter.core.decode import Decoder
from cdn77_exporter.core.errors import ConfigError
from cdn77_exporter.core.fields import FIELDS
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.core.measures import Kind, Measures, built_in
from cdn77_exporter.core.timeline import Rules, Timeline
from cdn77_exporter.edge.state import Database
from cdn77_exporter.settings.measures_file import measures_file, schema
from cdn77_exporter.settings.toml_file import FileFaults
from tests.support.counts import plain_counts
from tests.support.files import event, log_file, stream_name
from tests.support.samples import Received, increase, is_stale
from tests.support.settings import LEAST

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "measures.toml"
START = 1_700_000_100

FIRST_FIELDS = list(enumerate(FIELDS))[:20]
COUNTER = '[[counter]]\nname = "cdn77_x_total"\nhelp = "X."\n'
HISTOGRAM = '[[histogram]]\nname = "cdn77_x"\nhelp = "X."\nvalue = "cacheAge"\n'
VIEWERS = '[[viewers]]\nname = "cdn77_x"\nhelp = "X."\nlabels = { asn = "clientASN" }\n'
#: Files without a fault.
GOOD = {
    "an example": EXAMPLE.read_text("utf-8"),
    "nothing": "",
    "the least": COUNTER,
    "a histogram": HISTOGRAM,
    "viewers": VIEWERS,
    "all conditions": COUNTER
    + 'where = { cacheStatus = "HIT", responseStatus = 200, clientRequestCompleted = true }\n',
    "derived labels": COUNTER + 'labels = { stream_name = "stream", device_type = "device", track = "track" }\n',
    "every field": COUNTER
    + "[counter.labels]\n"
    + "".join(f'l{n} = "{name}"\n' for n, name in enumerate(list(FIELDS)[:20])),
    "buckets": HISTOGRAM + "per = 1000\nbuckets = [0.005, 1, 2.5]\n",
    "a limit": COUNTER + "limit = 1000000\n",
}
#: Files with a fault that the schema knows, too; its line and words.
BAD = {
    "a table of another name": ('[[gauge]]\nname = "x"\n', 1, "`gauge` is not a key here"),
    "no tables": ("counter = 7\n", 1, "must be tables"),
    "a misspelt key": (COUNTER + 'valeu = "responseBytes"\n', 4, "did you mean `value`?"),
    "a counter without its suffix": (COUNTER.replace("_total", ""), 2, "that ends in `_total`"),
    "a histogram with a suffix": (HISTOGRAM.replace("cdn77_x", "cdn77_x_count"), 2, "that does not end in"),
    "a capital letter": (COUNTER.replace("cdn77_x", "cdn77_xY"), 2, "of small letters"),
    "a name of the exporter's": (COUNTER.replace("cdn77_x", "cdn77_exporter_x"), 2, "of small letters"),
    "no name": ('[[counter]]\nhelp = "X."\n', 1, "`name` is missing"),
    "no help": ('[[counter]]\nname = "cdn77_x_total"\n', 1, "`help` is missing"),
    "a help of two lines": (COUNTER.replace("X.", "X\\nY"), 3, "of one line"),
    "a field that is not there": (COUNTER + 'value = "responseByte"\n', 4, "did you mean `responseBytes`?"),
    "a sum of texts": (COUNTER + 'value = "cacheStatus"\n', 4, "does not add up"),
    "a histogram without a value": (HISTOGRAM.replace('value = "cacheAge"\n', ""), 1, "`value` is missing"),
    "a histogram of flags": (HISTOGRAM.replace("cacheAge", "clientRequestCompleted"), 4, "does not add up"),
    "an unknown label": (COUNTER + 'labels = { asn = "clientAsn" }\n', 4, "did you mean `clientASN`?"),
    "a label that is none": (COUNTER + 'labels = { "a-b" = "clientASN" }\n', 4, "of small letters"),
    "no labels": (COUNTER + "labels = {}\n", 4, "is an empty table"),
    "an empty condition": (COUNTER + "where = {}\n", 4, "is an empty table"),
    "a condition of another type": (COUNTER + 'where = { responseStatus = "200" }\n', 4, "must be a whole number"),
    "a condition of no field": (COUNTER + "where = { status = 200 }\n", 4, "`status` is not a key here"),
    "no limit": (COUNTER + "limit = 0\n", 4, "out of range"),
    "no bucket": (HISTOGRAM + "buckets = []\n", 5, "an empty list"),
    "a bucket of zero": (HISTOGRAM + "buckets = [0]\n", 5, "out of range"),
    "viewers without labels": (VIEWERS.replace('labels = { asn = "clientASN" }\n', ""), 1, "`labels` is missing"),
    "viewers where": (VIEWERS + "where = { clientASN = 1 }\n", 5, "`where` is not a key here"),
}
#: Files with a fault that no schema tells.
SUBTLE = {
    "another metric's name": (COUNTER.replace("cdn77_x_total", "cdn77_requests_total"), 2, "of another metric"),
    "one name twice": (COUNTER + COUNTER, 5, "of another metric"),
    "a part of another": (COUNTER.replace("x_total", "x_total") + HISTOGRAM + HISTOGRAM, 9, "of another metric"),
    "a family's name": (HISTOGRAM.replace("cdn77_x", "cdn77_request_duration_seconds"), 2, "of another metric"),
    "a unit": (HISTOGRAM.replace("cdn77_x", "cdn77_x_ms"), 2, "`cdn77_x_seconds`"),
    "a type": (COUNTER.replace("cdn77_x", "cdn77_x_counter"), 2, "its type is no part"),
    "a reserved label": (COUNTER + 'labels = { le = "clientASN" }\n', 4, "gives itself"),
    "a stream by another name": (COUNTER + 'labels = { stream = "stream" }\n', 4, "is called `stream_name`"),
    "a stream that is none": (COUNTER + 'labels = { stream_name = "clientASN" }\n', 4, "something else"),
    "buckets in no order": (HISTOGRAM + "buckets = [2, 1]\n", 5, "not in order"),
    "buckets below all values": (HISTOGRAM + "buckets = [0.5]\n", 5, "begin with 1."),
    "too many buckets": (
        "".join(
            HISTOGRAM.replace("cdn77_x", f"cdn77_x{n}").replace("cacheAge", field) + f"buckets = {list(range(1, 61))}\n"
            for n, field in enumerate(("cacheAge", "clientPort", "tcpRTTus", "clientASN", "serverPort"))
        ),
        1,
        "there can be 250 at most",
    ),
    "too many conditions": (
        "".join(
            COUNTER.replace("cdn77_x", f"cdn77_x{n}_{part}")
            + "where = { "
            + ", ".join(f'{name} = "{n}{part}"' for name in ("cacheStatus", "locationID", "serverIP", "clientIP"))
            + " }\n"
            for n in range(10)
            for part in "kl"
        ),
        1,
        "different conditions",
    ),
}


def read(folder: Path, text: str) -> Measures:
    """The table of a file with this text."""
    path = folder / "measures.toml"
    path.write_text(text, "utf-8")
    return Measures(measures_file(str(path)).rows)


def faults(folder: Path, text: str) -> list[str]:
    """The faults of a file with this text."""
    with pytest.raises(FileFaults) as caught:
        read(folder, text)
    return [str(fault) for fault in caught.value.faults]


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_what_the_loader_takes_the_schema_takes(text: str, tmp_path: Path) -> None:
    """A file without a fault becomes rows, and an editor has nothing against it."""
    read(tmp_path, text)
    jsonschema.validate(tomllib.loads(text), json.loads(schema()))


@pytest.mark.parametrize(("text", "line", "words"), BAD.values(), ids=BAD)
def test_what_the_loader_refuses_the_schema_refuses(text: str, line: int, words: str, tmp_path: Path) -> None:
    """A fault is told with its line and a remedy, and an editor marks it."""
    found = faults(tmp_path, text)
    assert [fault for fault in found if fault.startswith(f"line {line}: ") and words in fault], found
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tomllib.loads(text), json.loads(schema()))


@pytest.mark.parametrize(("text", "line", "words"), SUBTLE.values(), ids=SUBTLE)
def test_faults_that_no_schema_tells_are_told(text: str, line: int, words: str, tmp_path: Path) -> None:
    """Names that collide, what other tools complain of, and what decoding could not hold."""
    found = faults(tmp_path, text)
    assert [fault for fault in found if fault.startswith(f"line {line}: ") and words in fault], found


def test_all_faults_of_a_file_are_told_at_once_beside_those_of_other_variables(tmp_path: Path) -> None:
    """One start shows everything that is wrong."""
    texts = [BAD[name][0] for name in ("a misspelt key", "a histogram of flags", "viewers where")]
    path = tmp_path / "measures.toml"
    path.write_text("".join(texts), "utf-8")
    with pytest.raises(ConfigError) as caught:
        settings.load(LEAST | {"MEASURES_FILE": str(path), "TICK_SECONDS": "7"})
    found = caught.value.faults
    assert len([fault for fault in found if fault.startswith("MEASURES_FILE (")]) == 4  # one name is there twice
    assert all(": line " in fault for fault in found if fault.startswith("MEASURES_FILE ("))
    assert len([fault for fault in found if fault.startswith("TICK_SECONDS")]) == 1


def test_a_label_of_a_file_is_no_external_label(tmp_path: Path) -> None:
    """The labels of one's own metrics count as those of the built-in ones do."""
    path = tmp_path / "measures.toml"
    path.write_text(COUNTER + 'labels = { asn = "clientASN" }\n', "utf-8")
    with pytest.raises(ConfigError, match="cdn77_x_total has of its own"):
        settings.load(LEAST | {"MEASURES_FILE": str(path), "EXTERNAL_LABELS": "asn=1"})


def test_promtool_finds_nothing_in_the_names(tmp_path: Path) -> None:
    """Names, types and helps of the example are as Prometheus would have them."""
    lines = []
    for family in dict.fromkeys(row.family for row in measures_file(str(EXAMPLE)).rows):
        lines += [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}"]
        if family.kind is Kind.HISTOGRAM:
            lines += [f'{family.name}_bucket{{le="+Inf"}} 1', f"{family.name}_sum 1", f"{family.name}_count 1"]
        else:
            lines += [f"{family.name} 1"]
    found = subprocess.run(
        ["promtool", "check", "metrics"], input="\n".join(lines) + "\n", capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


# What is counted


def lines_of(count: int) -> list[dict[str, Any]]:
    """Events of a few streams, networks and content types, some odd."""
    return [
        event(
            (START + number % 60) * 1000,
            clientIP=f"198.51.100.{number % 40}",
            clientRequestPath=f"/{stream_name(number % 3)}/index.m3u8",
            clientASN=(64_500 + number % 7) if number % 11 else None,
            clientRequestProtocol=("HTTP20", "HTTP11", "", "HTTP30")[number % 4],
            clientSSLProtocol=("TLS13", "TLS12")[number % 2],
            responseContentType=("video/mp4", "application/vnd.apple.mpegurl", "")[number % 3],
            responseBytes=1000 + number,
            cacheAge=(0, 1, 5, 10, 11, 700, 90_000)[number % 7],
            clientRequestCompleted=bool(number % 5),
        )
        for number in range(count)
    ]


class Process:
    """Decodes lines and writes their ticks, with a table of measures."""

    def __init__(
        self,
        measures: Measures,
        *,
        accelerate: bool = True,
        rules: Rules | None = None,
        database: Database | None = None,
        now: int = START,
    ) -> None:
        rules = rules or Rules()
        self.decoder = Decoder(measures, tick_seconds=rules.tick_seconds, accelerate=accelerate)
        self.timeline = Timeline(rules, start_ms=START * 1000 - 60_000, key=bytes(32), measures=measures)
        self.database = database
        if database is not None and (snapshot := database.load()) is not None:
            self.timeline.restore(snapshot)
        self.received = Received()
        self.now = now

    def count(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Count a file."""
        body = gzip.compress(b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines))
        stats, counts = self.decoder.decode(body, latest_ms=(START + 10**6) * 1000, oldest_ms=0)
        assert stats.events == len(lines)
        self.timeline.absorb([(LogFile(f"logs/{self.now}", "e", 1, 1), stats)], counts)

    def advance(self, seconds: int) -> None:
        """Write the ticks of so many seconds."""
        for _ in range(0, seconds, 300):
            self.now += min(seconds, 300)
            more = True
            while more:
                requests, more = self.timeline.advance(self.now * 1000, self.now * 1000 + 1000)
                self.received.take((request.body, request.samples) for request in requests)
                self.timeline.done([request.number for request in requests])
                changes = self.timeline.take_changes([], 0, [])
                if self.database is not None:
                    self.database.commit(changes)

    def timeline_series(self, metric: str) -> list[tuple[tuple[str, str], ...]]:
        """The labels of each live series of a metric."""
        table, found = self.timeline.series, []
        for slot in range(table.end):
            if table.live[slot]:
                code, values = split_key(table.key(slot))
                own = table.catalogue.metric(code)
                if own is not None and own.name == metric:
                    found.append(tuple(zip(own.labels, values, strict=True)))
        return found

    def present(self, metric: str) -> dict[tuple[tuple[str, str], ...], float]:
        """The last value of each series of a gauge, by its labels; of those that have ended, none."""
        return {
            tuple(pair for pair in name if pair[0] != "__name__"): samples[-1][1]
            for name, samples in self.received.samples.items()
            if dict(name)["__name__"] == metric and not is_stale(samples[-1][1])
        }

    def grown(self, metric: str) -> dict[tuple[tuple[str, str], ...], float]:
        """How much each series of a metric grew, by its labels."""
        found = {}
        for name, samples in self.received.samples.items():
            labels = dict(name)
            if labels.pop("__name__") == metric:
                grown = increase(samples, 0, 2**60)
                if grown:
                    found[tuple(sorted(labels.items()))] = grown
        return found


def counted(lines: Sequence[Mapping[str, Any]], labels: Mapping[str, str], amount: Any) -> dict[Any, float]:
    """The same counted from the lines: `labels` are expressions over a line's fields, as is what is added."""
    found: dict[Any, float] = defaultdict(float)
    for line in lines:
        own = tuple(sorted((name, str(value(line))) for name, value in labels.items()))  # type: ignore[operator]
        found[own] += amount(line)
    return {key: value for key, value in found.items() if value}


def viewers_by_asn(lines: Sequence[Mapping[str, Any]]) -> dict[tuple[tuple[str, str], ...], float]:
    """Distinct addresses by stream and network, as the lines tell it."""
    found = defaultdict(set)
    for line in lines:
        labels = {"stream_name": stream_label(line), "asn": str(line["clientASN"] or 0), "window": "2h"}
        found[tuple(sorted(labels.items()))].add(line["clientIP"])
    return {labels: float(len(addresses)) for labels, addresses in found.items()}


def stream_label(line: Mapping[str, Any]) -> str:
    """The stream in a line's path."""
    return str(line["clientRequestPath"]).split("/")[1]


@pytest.mark.parametrize("accelerate", [True, False], ids=["compiled", "pure"])
def test_the_example_counts_what_the_lines_say(accelerate: bool) -> None:
    """Every metric of the example grows by what an independent count of the lines finds, to the unit."""
    process = Process(Measures((*built_in().rows, *measures_file(str(EXAMPLE)).rows)), accelerate=accelerate)
    lines = lines_of(400)
    process.count(lines[:150])
    process.count(lines[150:])
    process.advance(300)
    by_asn: Any = {"stream_name": stream_label, "asn": lambda line: line["clientASN"] or 0}
    assert process.grown("cdn77_bytes_by_asn_total") == counted(lines, by_asn, lambda line: line["responseBytes"])
    by_protocol: Any = {
        "stream_name": stream_label,
        "protocol": lambda line: line["clientRequestProtocol"] or "unknown",
        "tls_version": lambda line: line["clientSSLProtocol"],
    }
    assert process.grown("cdn77_requests_by_protocol_total") == counted(lines, by_protocol, lambda line: 1)
    assert process.present("cdn77_active_viewers_by_asn") == viewers_by_asn(lines)
    by_type: Any = {"content_type": lambda line: line["responseContentType"] or "unknown"}
    assert process.grown("cdn77_bytes_by_content_type_total") == counted(
        lines, by_type, lambda line: line["responseBytes"] * line["clientRequestCompleted"]
    )
    by_stream: Any = {"stream_name": stream_label}
    age = "cdn77_cache_age_seconds"
    assert process.grown(f"{age}_sum") == counted(lines, by_stream, lambda line: line["cacheAge"])
    assert process.grown(f"{age}_count") == counted(lines, by_stream, lambda line: line["cacheAge"] > 0)
    for bound in (1, 10, 60, 600, 3600, 86_400, float("inf")):
        le = "+Inf" if bound == float("inf") else str(bound)
        expected = counted(
            lines, by_stream | {"le": lambda line, le=le: le}, lambda line, most=bound: 0 < line["cacheAge"] <= most
        )
        assert {key: value for key, value in process.grown(f"{age}_bucket").items() if ("le", le) in key} == expected


def test_viewers_by_a_label_are_taken_up_and_leave() -> None:
    """A new process knows who is in the window, counts nobody twice, and lets all leave after the window."""
    measures = Measures((*built_in().rows, *measures_file(str(EXAMPLE)).rows))
    database = Database(":memory:")
    process = Process(measures)
    key = database.secret_key()
    lines = lines_of(200)
    for part in (lines[:120], lines[80:]):
        process.timeline = Timeline(Rules(), start_ms=START * 1000 - 60_000, key=key, measures=measures)
        snapshot = database.load()
        if snapshot is not None:
            process.timeline.restore(snapshot)
        process.count(part)
        process.now += 60
        requests, _ = process.timeline.advance(process.now * 1000, process.now * 1000 + 1000)
        process.received.take((request.body, request.samples) for request in requests)
        process.timeline.done([request.number for request in requests])
        database.commit(process.timeline.take_changes([], 0, []))
    assert process.present("cdn77_active_viewers_by_asn") == viewers_by_asn(lines)
    assert sum(process.present("cdn77_active_viewers").values()) == 120
    process.advance(7500)
    assert not any(process.present("cdn77_active_viewers_by_asn").values())


def test_viewers_over_a_limit_are_other() -> None:
    """Networks over the limit are one, and each viewer counts in it once."""
    rows = measures_file_rows(VIEWERS + "limit = 3\n")
    process = Process(Measures((*built_in().rows, *rows)))
    pairs = [(asn, number) for asn in range(1, 7) for number in range(asn)]
    process.count([event(START * 1000, clientASN=asn, clientIP=f"198.51.100.{number}") for asn, number in pairs])
    process.advance(60)
    found = {dict(labels)["asn"]: value for labels, value in process.present("cdn77_x").items()}
    assert found == {"4": 4.0, "5": 5.0, "6": 6.0, "other": 3.0}


@pytest.mark.parametrize("labels", ['asn = "clientASN"', 'stream_name = "stream", asn = "clientASN"'])
def test_label_sets_that_no_viewer_has_are_forgotten(labels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many networks viewers come from in time, what is kept is of those who are there, and the numbers are
    right, also in the next processes and with a longer window."""
    monkeypatch.setattr(labelling, "_FIRST_PROFILES", 60)
    measures = Measures((*built_in().rows, *measures_file_rows(f"{VIEWERS.splitlines()[0]}\n{_named(labels)}")))
    database, process = Database(":memory:"), None
    for hour in range(12):
        if process is None or hour % 3 == 0:
            rules = Rules(tick_seconds=60, presence_seconds=60, session_window_seconds=1800 if hour < 6 else 7200)
            process = Process(measures, rules=rules, database=database, now=process.now if process else START)
        # One who stays, one of whom devices differ, and those of twenty networks that come once.
        asns = [1, 1, 1, *range(100 + 20 * hour, 120 + 20 * hour)]
        process.count([
            event(
                (process.now + number) * 1000,
                clientASN=asn,
                clientIP=f"198.51.100.{min(number, 1) if asn == 1 else number}",
                clientRequestUserAgent=("Roku", "curl")[number == 2],
                clientCountry=f"{hour % 5}{number}",
            )
            for number, asn in enumerate(asns)
        ])  # fmt: skip
        process.advance(120)
        present = {dict(key)["asn"]: value for key, value in process.present("cdn77_x").items() if value}
        assert present == {str(asn): 2.0 if asn == 1 else 1.0 for asn in asns} | (
            {} if hour < 7 else {str(asn): 1.0 for asn in range(100 + 20 * (hour - 1), 100 + 20 * hour)}
        )
        process.advance(3480)
        snapshot = database.load()
        assert snapshot is not None
        assert len(list(snapshot.profiles)) <= 250


def _named(labels: str) -> str:
    return f'name = "cdn77_x"\nhelp = "X."\nlabels = {{ {labels} }}\n'


def test_the_table_goes_to_other_processes_as_data(tmp_path: Path) -> None:
    """Rules that were sent elsewhere decode the same there, without the file."""
    path = tmp_path / "measures.toml"
    path.write_text(EXAMPLE.read_text("utf-8"), "utf-8")
    rules = settings.load(LEAST | {"MEASURES_FILE": str(path)}).decoder_rules
    path.unlink()
    elsewhere = pickle.loads(pickle.dumps(rules))  # noqa: S301 - our own
    assert elsewhere == rules
    body = log_file(lines_of(50))
    found = [one.decoder().decode(body, latest_ms=2**42, oldest_ms=0)[1] for one in (rules, elsewhere)]
    assert plain_counts(found[0]) == plain_counts(found[1])


def test_a_metric_without_labels_is_one_series() -> None:
    """Nothing but a name: all events of all streams."""
    process = Process(Measures(measures_file_rows(COUNTER)))
    process.count(lines_of(50))
    process.advance(60)
    assert process.grown("cdn77_x_total") == {(): 50}
    assert not process.timeline.series.streams()


def measures_file_rows(text: str) -> tuple[Any, ...]:
    """The rows of a text."""
    from cdn77_exporter.settings.measures_file import read_measures
    from cdn77_exporter.settings.toml_file import parse_toml

    return read_measures(parse_toml(text.encode()))


@pytest.mark.parametrize("field", list(FIELDS))
def test_any_field_is_a_label_and_a_condition(field: str) -> None:
    """Compiled and pure count the same by every field of a line."""
    value = event(START * 1000)[field]
    text = json.dumps(value)
    rows = measures_file_rows(
        f'{COUNTER}labels = {{ own = "{field}" }}\n'
        + (f"{COUNTER.replace('_x', '_y')}where = {{ {field} = {text} }}\n" if value != "" else "")
    )
    found = []
    for accelerate in (True, False):
        process = Process(Measures(rows), accelerate=accelerate)
        process.count([event(START * 1000)] * 2)
        process.advance(60)
        found.append((process.grown("cdn77_x_total"), process.grown("cdn77_y_total")))
    assert found[0] == found[1]
    assert sum(found[0][0].values()) == 2
    if value != "":
        assert sum(found[0][1].values()) == 2


def test_a_flood_in_a_metric_of_ones_own_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What begins too many series at once is counted as too much, whichever metric has them."""
    monkeypatch.setattr(labelling, "_FEW_NEW", 600)
    monkeypatch.setattr(labelling, "_LEAST_NEW", 10)
    own = measures_file_rows(f'{COUNTER}labels = {{ asn = "clientASN" }}\n')
    process = Process(Measures((*built_in().rows, *own)), rules=Rules(max_series=6000))
    process.count([event(START * 1000, clientASN=number) for number in range(2000)])
    process.advance(60)
    found = process.grown("cdn77_x_total")
    assert sum(found.values()) == 2000
    told = process.timeline.labelling
    assert told.new_refused > 500
    assert told.new_refused + told.limited == found[(("asn", "other"),)]

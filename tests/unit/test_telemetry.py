"""The log and the self-metrics: lines, masks, counters, and current problems."""

from __future__ import annotations

import ast
import io
import ipaddress
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

import cdn77_exporter
from cdn77_exporter import settings
from cdn77_exporter.core.masking import Masker
from cdn77_exporter.core.reasons import REJECT_REASONS
from cdn77_exporter.flow.in_flight import MOVES, At
from cdn77_exporter.telemetry.conditions import CONDITIONS, Condition, Severity
from cdn77_exporter.telemetry.libraries import adopt_logging
from cdn77_exporter.telemetry.logger import Telemetry
from cdn77_exporter.telemetry.loop_lag import LoopLag
from cdn77_exporter.telemetry.messages import MESSAGES, Holds, Level, MessageName
from cdn77_exporter.telemetry.metrics import PREFIX, SELF_METRICS
from cdn77_exporter.telemetry.problems import Problem, Problems

PACKAGE = Path(cdn77_exporter.__file__).parent
LEAST = {
    "S3_ENDPOINT": "http://192.0.2.7:9000",
    "S3_BUCKET": "logs",
    "S3_PREFIX": "all",
    "S3_ACCESS_KEY": "AKIAEXAMPLEKEY",
    "S3_SECRET_KEY": "wJalr/XUtn+FEMI",
    "PROMETHEUS_URL": "https://prometheus.example.com/api/v1/write",
    "PROMETHEUS_USER": "me",
    "PROMETHEUS_PASSWORD": "pass word",
    "PROMETHEUS_HEADERS": "X-Token: t0ken-of-a-tenant",
}


class Voice:
    """A Telemetry whose lines and metrics can be read."""

    def __init__(self, **more: str) -> None:
        self.stream = io.BytesIO()
        self.now = 1_767_225_600.5
        loaded = settings.load(LEAST | more)
        self.telemetry = Telemetry(loaded.masker(), loaded.log_level, stream=self.stream, now=lambda: self.now)

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def metric(self, name: str, **labels: str) -> float | None:
        for family in text_string_to_metric_families(self.telemetry.exposition().decode()):
            for sample in family.samples:
                if sample.name == PREFIX + name and sample.labels == labels:
                    return sample.value
        return None


@pytest.fixture
def voice() -> Voice:
    return Voice()


def test_a_message_is_one_json_line_that_begins_with_time_level_and_name(voice: Voice) -> None:
    """The three keys come first, in their order, then the fields in that of the table."""
    voice.telemetry("poll_finished", new=2, seconds=0.1234567, listed=10)
    assert voice.stream.getvalue() == (
        b'{"timestamp":"2026-01-01T00:00:00.500Z","level":"info","message":"poll_finished",'
        b'"listed":10,"new":2,"seconds":0.123457}\n'
    )


def test_what_the_table_does_not_know_is_refused(voice: Voice) -> None:
    """The lists of messages and of their fields are closed."""
    with pytest.raises(LookupError):
        voice.telemetry("something_happened")  # type: ignore[arg-type]
    with pytest.raises(LookupError):
        voice.telemetry("poll_finished", listed=1, colour="red")
    assert voice.lines == []


def logged() -> dict[str, set[str]]:
    """Every message that a call in the source logs, with the fields that all its calls give together.

    A file's move logs the messages that the table of moves has for its target.
    """
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(call, ast.Call) or not call.args:
                continue
            target = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            if path.stem == "in_flight":
                continue  # the messages of its table stand where files are moved
            if target == "move" and isinstance(call.args[-1], ast.Attribute):
                fields = {"key", *(str(keyword.arg) for keyword in call.keywords)}
                to = At[call.args[-1].attr]
                for message in {moves[to] for moves in MOVES.values() if to in moves} - {None}:
                    found.setdefault(str(message), set()).update(fields)
                continue
            if target.strip("_") not in {"report", "telemetry"} and (target, path.stem) != ("self", "logger"):
                continue
            names = [call.args[0]]
            if isinstance(names[0], ast.IfExp):
                names = [names[0].body, names[0].orelse]
            for name in names:
                assert isinstance(name, ast.Constant), f"{path.name}:{call.lineno} logs what nobody can check"
                assert all(keyword.arg for keyword in call.keywords), f"{path.name}:{call.lineno} hides its fields"
                found.setdefault(str(name.value), set()).update(str(keyword.arg) for keyword in call.keywords)
    return found


def test_the_table_is_what_the_source_logs() -> None:
    """Every message and every field of the table is given somewhere in the source, and nothing else is."""
    table = {name: {field.name for field in message.fields} for name, message in MESSAGES.items()}
    assert logged() == table


def test_the_closed_list_of_names_is_the_table() -> None:
    """The names that the type checker allows are those of the table, in its order."""
    assert get_args(MessageName) == tuple(MESSAGES)


def test_the_table_of_messages_is_sound() -> None:
    """Fields are unique, texts are sentences, and each metric can be updated by the row or field it stands in."""
    counts = {Holds.NUMBER: {"counter", "gauge", "histogram"}, Holds.NAME: {"counter"}, Holds.TABLE: {"counter"}}
    for message in MESSAGES.values():
        assert len({field.name for field in message.fields}) == len(message.fields)
        assert not {field.name for field in message.fields} & {"timestamp", "level", "message", "event"}
        for text in (message.meaning, message.action):
            assert text[0].isupper() and text.endswith((".", ")."))
        if message.counts:
            assert message.counts.kind == "counter"
            assert not message.counts.labels or message.outcome in dict(message.counts.labels)["outcome"]
            assert message.counts.labels or not message.outcome
        assert not message.stamps or message.stamps.kind == "gauge"
        for field in message.fields:
            if field.metric:
                assert field.metric.kind in counts[field.holds]
                assert len(field.metric.labels) == (field.holds is not Holds.NUMBER)


def test_self_metrics_follow_the_naming_rules() -> None:
    """Names are unique, counters end in `_total` and nothing else does, and units are base units."""
    assert len({metric.name for metric in SELF_METRICS}) == len(SELF_METRICS)
    for metric in SELF_METRICS:
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert not metric.name.endswith(("_ms", "_milliseconds", "_kb", "_mb", "_minutes"))
        assert metric.help.endswith(".")


def test_the_level_hides_lines_but_not_metrics() -> None:
    """LOG_LEVEL decides what is written; what is counted stays the same."""
    voice = Voice(LOG_LEVEL="error")
    voice.telemetry("poll_finished", listed=1, new=1, seconds=0.1)
    voice.telemetry("poll_failed", error="away", remedy="wait")
    assert [line["message"] for line in voice.lines] == ["poll_failed"]
    assert voice.metric("polls_total", outcome="finished") == 1
    assert voice.metric("log_messages_total", level="info") == 1
    quiet, loud = Voice(), Voice(LOG_LEVEL="debug")
    for each in (quiet, loud):
        each.telemetry("file_deleted", key="k")
    assert (len(quiet.lines), len(loud.lines)) == (0, 1)


def test_a_counted_file_updates_its_metrics(voice: Voice) -> None:
    """Lines, events, rejects by reason, lateness and durations of a file are added to the totals."""
    for _ in range(2):
        voice.telemetry(
            "file_counted",
            key="all/20260101/00/rtl.x+1+2.ndjson.gz",
            shard="1",
            size=100,
            lines=10,
            events=7,
            rejects={"not_json": 2, "bad_path": 1},
            late=3,
            late_seconds=40.0,
            skipped=1,
            fetch_seconds=0.2,
            decode_seconds=0.01,
        )
    voice.telemetry("file_counted", key="k", lines=1, events=1, rejects={}, late=0, late_seconds=None)
    assert "late_seconds" not in voice.lines[-1]
    assert voice.metric("files_total", outcome="counted") == 3
    assert (voice.metric("lines_total"), voice.metric("events_total")) == (21, 15)
    assert voice.metric("rejects_total", reason="not_json") == 4
    assert voice.metric("rejects_total", reason="bad_path") == 2
    assert (voice.metric("late_events_total"), voice.metric("late_seconds_count")) == (6, 2)
    assert (voice.metric("skipped_files_total"), voice.metric("file_bytes_total")) == (2, 200)
    assert voice.metric("decode_seconds_count") == 2  # a field that is not given updates nothing


def test_a_batch_updates_its_metrics_by_whether_it_was_accepted(voice: Voice) -> None:
    """Only an accepted batch sets the time of the last success."""
    voice.telemetry("batch_incomplete", samples=5, size=50, seconds=0.1, lag_seconds=30.0)
    assert voice.metric("last_push_success_timestamp_seconds") == 0
    voice.telemetry("batch_pushed", samples=5, size=50, seconds=0.1, lag_seconds=30.0)
    assert voice.metric("last_push_success_timestamp_seconds") == voice.now
    assert voice.metric("pushes_total", outcome="accepted") == 1
    assert voice.metric("pushes_total", outcome="incomplete") == 1
    assert voice.metric("samples_pushed_total") == 10


def test_every_message_can_be_logged_with_all_its_fields(voice: Voice) -> None:
    """No update of a metric fails, whichever message it is."""
    values: dict[Holds, object] = {
        Holds.NUMBER: 1,
        Holds.FLAG: True,
        Holds.NAME: "not_json",
        Holds.TEXT: "text",
        Holds.TABLE: {"not_json": 1},
    }
    for message in MESSAGES.values():
        voice.telemetry(message.name, **{field.name: values[field.holds] for field in message.fields})
    written = [line["message"] for line in voice.lines]
    assert written == [message.name for message in MESSAGES.values() if message.level is not Level.DEBUG]


def test_every_series_is_there_from_the_start(voice: Voice) -> None:
    """A rate over a counter that has not moved yet is zero and not nothing."""
    for reason in REJECT_REASONS:
        assert voice.metric("rejects_total", reason=reason) == 0
    for outcome in ("counted", "unreadable", "set_aside", "gone"):
        assert voice.metric("files_total", outcome=outcome) == 0
    assert voice.metric("last_poll_success_timestamp_seconds") == 0
    assert voice.metric("build_info", version=cdn77_exporter.__version__) == 1
    text = voice.telemetry.exposition().decode()
    assert "process_resident_memory_bytes" in text and "python_info" in text
    assert "_created" not in text


def test_a_probe_is_asked_at_each_scrape(voice: Voice) -> None:
    """Gauges show what is so at the scrape; one that fails or has no value is left out and spoils nothing."""
    depth = [3.0]
    voice.telemetry.watch("queue_depth", lambda: depth[0], stage="fetch")
    voice.telemetry.watch("queue_depth", lambda: 1 / 0, stage="push")
    voice.telemetry.watch("watermark_lag_seconds", lambda: None)
    assert voice.metric("queue_depth", stage="fetch") == 3
    depth[0] = 4.0
    assert voice.metric("queue_depth", stage="fetch") == 4
    assert voice.metric("queue_depth", stage="push") is None
    assert voice.metric("watermark_lag_seconds") is None


def test_a_probe_that_nobody_declared_is_refused(voice: Voice) -> None:
    """Names and labels of probes are those of the table."""
    for name, labels in (("depth", {}), ("queue_depth", {}), ("series", {"stage": "x"}), ("lines_total", {})):
        with pytest.raises(LookupError):
            voice.telemetry.watch(name, lambda: 1, **labels)


def test_loop_lag_is_that_of_the_last_measurements() -> None:
    """Percentile and maximum forget what is older than the window."""
    lag = LoopLag(most=100)
    assert (lag.p99(), lag.most()) == (None, None)
    for late in [9.0] * 10 + [0.001] * 98 + [0.2, 0.5]:
        lag.observe(late)
    assert (lag.p99(), lag.most()) == (0.2, 0.5)
    lag.observe(-1.0)
    assert lag.most() == 0.5


# Masks


def test_secrets_are_masked_in_every_form(voice: Voice) -> None:
    """Plain, percent-encoded, in the basic login, and in names of files."""
    text = "wJalr/XUtn+FEMI wJalr%2FXUtn%2BFEMI Basic bWU6cGFzcyB3b3Jk 'pass word' t0ken-of-a-tenant AKIAEXAMPLEKEY"
    voice.telemetry("poll_failed", error=text, remedy=text)
    voice.telemetry("file_gone", key="all/t0ken-of-a-tenant/x")
    assert voice.lines[0]["error"] == "*** *** Basic *** '***' *** ***"
    assert voice.lines[1]["key"] == "all/***/x"


def test_a_short_secret_is_masked_as_a_word_only() -> None:
    """A password such as `test` must not turn every text with these letters into asterisks."""
    masker = Masker(lambda: frozenset({"test"}))
    assert masker("the latest test failed: user/test:test") == "the latest *** failed: user/***:***"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("from 203.0.113.9:443 refused", "from ***:443 refused"),
        ("[2001:db8::1]:443, 2001:db8::2: no", "[***]:443, ***: no"),
        ("::ffff:203.0.113.9 and 010.020.030.040", "*** and ***"),
        ("/seg/203.0.113.9/x.ts?ip=203.0.113.9", "/seg/***/x.ts?ip=***"),
        (r"'a\n203.0.113.9\n2001:db8::1'", r"'a\n***\n***'"),
        ("fe80::1%eth0", "***%eth0"),
        ("error:2001:db8::1: no", "error:***: no"),
        ("dead:1:2:3:4:5:6:7:8 " + "1:" * 200, "***:8 ***"),
        ("at 12:34:56 on 2026-01-01T00:00:00Z, 1.2.3, 1.2.3.4.5, 999.1.1.1", None),
        ("127.0.0.1:9177, ::1, 0.0.0.0:80, 192.0.2.7:9000", None),
        ("rtl.4f5d0c9e-1111-2222-3333-abcdefabcdef+1+20.ndjson.gz", None),
    ],
)
def test_addresses_are_masked_in_texts(voice: Voice, text: str, masked: str | None) -> None:
    """Any IP but loopback and the operator's own servers; nothing that only looks a little like one."""
    voice.telemetry("poll_failed", error=text, remedy="")
    assert voice.lines[0]["error"] == (text if masked is None else masked)


def test_names_keep_their_dots(voice: Voice) -> None:
    """A file's key or a version may hold four numbers with dots."""
    voice.telemetry("file_gone", key="all/1.2.3.4/x")
    assert voice.lines[0]["key"] == "all/1.2.3.4/x"


def outside(addresses: st.SearchStrategy[object]) -> st.SearchStrategy[str]:
    def foreign(text: str) -> bool:
        address = ipaddress.ip_address(text)
        return not (address.is_loopback or address.is_unspecified or text == "192.0.2.7")

    return addresses.map(str).filter(foreign)


@given(
    outside(st.ip_addresses()),
    st.sampled_from(["", " ", "'", "[", "/", "=", ":", "\n", "\\n", "\\f", ", "]),
    st.sampled_from(["", " ", "'", "]", "/", ": x", ":80", "%3A"]),
)
def test_no_address_passes_in_any_field_of_text(address: str, before: str, after: str) -> None:
    """Wherever it stands in a text, nothing of a client's address can be read."""
    voice = Voice()
    text = f"x{before}{address}{after}"
    voice.telemetry("request_refused", status=400, words=text)
    voice.telemetry("service_started", settings={"A": text, text: [text]})
    voice.telemetry.problems.found("receiver", text)
    shown = voice.stream.getvalue().decode() + str(voice.telemetry.problems.current())
    assert address not in shown
    assert address not in str(voice.telemetry.recent)


def test_the_mask_follows_a_secret_that_changes(tmp_path: Path) -> None:
    """A new secret is masked from the first line after it was read."""
    path = tmp_path / "key"
    path.write_text("first-secret")
    env = {name: value for name, value in LEAST.items() if name != "S3_SECRET_KEY"}
    loaded = settings.load(env | {"S3_SECRET_KEY_FILE": str(path)})
    stream = io.BytesIO()
    telemetry = Telemetry(loaded.masker(), stream=stream)
    path.write_text("second-secret")
    assert loaded.s3_secret_key.reveal() == "second-secret"
    telemetry("poll_failed", error="first-secret second-secret", remedy="")
    assert json.loads(stream.getvalue())["error"] == "*** ***"


# Values


class Odd:
    def __str__(self) -> str:
        return "odd \ud800 203.0.113.9"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (float("nan"), None),
        (float("inf"), None),
        (10**30, 1e30),
        (10**400, None),
        ("x" * 9000, "x" * 7999 + "…"),
        (Odd(), "odd \\ud800 ***"),
        ({"a": {"b": (1, 2.5, None, True)}}, {"a": {"b": [1, 2.5, None, True]}}),
        ({1}, [1]),
    ],
)
def test_any_value_becomes_json(voice: Voice, value: object, shown: object) -> None:
    """A value that JSON does not have cannot stop the service."""
    voice.telemetry("poll_failed", error=value, remedy="")
    assert voice.lines[0]["error"] == shown


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_every_line_is_one_line_of_json(value: object) -> None:
    """Whatever a field holds, a line stays a line."""
    voice = Voice()
    voice.telemetry("poll_failed", error=value, remedy="")
    body = voice.stream.getvalue()
    assert body.count(b"\n") == 1
    assert orjson.loads(body)["message"] == "poll_failed"


class Closed(io.BytesIO):
    def write(self, data: object, /) -> int:
        raise BrokenPipeError


def test_a_closed_stdout_does_not_end_the_service() -> None:
    """Lines that cannot be written are counted."""
    telemetry = Telemetry(settings.load(LEAST).masker(), stream=Closed())
    telemetry("poll_failed", error="x", remedy="y")
    assert b"cdn77_exporter_log_lines_lost_total 1.0" in telemetry.exposition()


# Crashes, problems, libraries


def fail_with(secret: str) -> None:
    local_value = secret  # must not show: a traceback has no values of variables
    raise ValueError(f"no {local_value}")


def test_a_crash_is_told_without_secrets_and_values(voice: Voice) -> None:
    """The line has the type, the text and the calls; each error of a group once; nothing secret in any of them."""
    hidden = "a value that only a local variable has"
    try:
        try:
            fail_with("pass word")
        except ValueError as error:
            raise ExceptionGroup("tasks", [error, ExceptionGroup("more", [KeyError("203.0.113.9"), error])]) from None
    except ExceptionGroup as group:
        voice.telemetry.crashed(group)
    del hidden
    assert [line["error"] for line in voice.lines] == ["ValueError: no ***", "KeyError: '***'"]
    assert "fail_with" in str(voice.lines[0]["traceback"])
    text = voice.stream.getvalue()
    assert b"pass word" not in text.replace(b'fail_with(\\"pass word\\")', b"") and b"203.0.113.9" not in text


def test_a_crash_names_where_it_happened(voice: Voice) -> None:
    """The stage is the innermost function of the package."""
    try:
        settings.http_address("nonsense")
    except ValueError as error:
        voice.telemetry.crashed(error)
    assert voice.lines[0]["stage"] == "settings.parse.http_address"


def test_problems_have_a_beginning_and_an_end() -> None:
    """`since` is when it was first found; a solved problem is gone, and begins again when it comes back."""
    now = [0.0]
    problems = Problems(now=lambda: now[0])
    problems.found("bucket", "away", "wait")
    now[0] = 60.0
    problems.found("receiver", "401")
    problems.found("bucket", "away", "wait longer")
    assert problems.current() == [
        Problem("bucket", Severity.RED, "1970-01-01T00:00:00.000Z", "away", "wait longer"),
        Problem("receiver", Severity.RED, "1970-01-01T00:01:00.000Z", "401", CONDITIONS["receiver"].action),
    ]
    problems.solved("bucket")
    problems.solved("state")
    problems.found("bucket", "wait")
    assert problems.current()[-1].since == "1970-01-01T00:01:00.000Z"
    assert len(problems) == 2


def test_problems_are_counted_by_a_gauge(voice: Voice) -> None:
    """The gauge has a series for each condition of the table, which is 1 while it holds."""
    assert {what: voice.metric("problems", what=what) for what in CONDITIONS} == dict.fromkeys(CONDITIONS, 0)
    voice.telemetry.problems.found("bucket", "away")
    assert [what for what in CONDITIONS if voice.metric("problems", what=what)] == ["bucket"]


def test_problems_are_told_when_they_begin_and_end(voice: Voice) -> None:
    """The log has the words of the page and of `/readyz`, once for each problem."""
    problems = voice.telemetry.problems
    problems.found("files_missing", "2 files missing in shard 7")
    problems.found("files_missing", "3 files missing in shard 7")
    (problem,) = problems.current()
    assert problem.headline == problem.words[:1].upper() + problem.words[1:]
    assert problems.ready
    problems.solved("files_missing")
    found, solved = voice.lines
    assert (found["message"], found["words"]) == ("problem_found", "2 files missing in shard 7")
    assert (found["what"], found["severity"], found["remedy"]) == (problem.what, problem.severity, problem.remedy)
    assert (solved["message"], solved["what"]) == ("problem_solved", "files_missing")


@pytest.mark.parametrize("row", CONDITIONS.values(), ids=lambda row: row.name)
def test_only_what_is_amber_leaves_the_service_ready(row: Condition) -> None:
    """A condition of another colour makes `/readyz` say that it is not ready; a long sentence has a short headline."""
    problems = Problems()
    problems.found(row.name, "long " * 50)
    assert problems.ready is (row.severity is Severity.AMBER)
    (problem,) = problems.current()
    assert (problem.headline, problem.remedy) == (row.title, row.action)


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def test_libraries_speak_through_messages(voice: Voice, root_logger: logging.Logger) -> None:
    """Their warnings are lines like all others, masked; what is below a warning is not written."""
    adopt_logging(voice.telemetry)
    logging.getLogger("botocore").warning("key %s from %s", "AKIAEXAMPLEKEY", "203.0.113.9")
    logging.getLogger("botocore").info("nothing to see")
    logging.getLogger("broken").warning("%d", "no number")
    try:
        raise OSError("203.0.113.9 is away")
    except OSError:
        logging.getLogger("asyncio").exception("lost")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("pass" + " word", stacklevel=1)
    told = [(line["library"], line["text"]) for line in voice.lines]
    assert told[:3] == [
        ("botocore", "key *** from ***"),
        ("broken", "a warning that cannot be formatted"),
        ("asyncio", "lost (OSError: *** is away)"),
    ]
    assert told[3][0] == "py.warnings" and "UserWarning: ***" in str(told[3][1])


def test_the_last_warnings_are_kept(voice: Voice) -> None:
    """A bounded number of lines, as they were written, for the status page."""
    voice.telemetry("poll_finished", listed=0, new=0, seconds=0.1)
    for number in range(150):
        voice.telemetry("request_refused", status=number, words="203.0.113.9")
    assert [line["status"] for line in voice.telemetry.recent] == list(range(50, 150))
    assert voice.telemetry.recent[0]["words"] == "***"

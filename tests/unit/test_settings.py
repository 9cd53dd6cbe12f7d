"""The configuration: what is taken, what is refused, and what never shows."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import os
import pickle
import traceback
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from cdn77_exporter import settings
from cdn77_exporter.core.decode import Limits
from cdn77_exporter.core.errors import ConfigError
from cdn77_exporter.core.path_pattern import DEFAULT_STREAM_PATTERN
from cdn77_exporter.core.viewers.window import Lengths
from cdn77_exporter.edge.decode_job import DecoderRules
from cdn77_exporter.settings import File, InBucket, Off
from cdn77_exporter.settings.secret import Headers, Secret, parse_headers
from cdn77_exporter.telemetry.messages import Level
from tests.support.settings import LEAST


def load(**more: str) -> settings.Settings:
    return settings.load(LEAST | more)


def faults(**more: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(**more)
    return caught.value.faults


def test_the_required_variables_are_enough_and_the_rest_has_the_documented_defaults() -> None:
    """Six variables make a configuration; the others have the defaults of the table."""
    found = load()
    assert found.s3_prefix == "real-time-logs/all-logs"
    assert found.s3_secret_key.reveal() == "wJalrXUtnFEMIexample"
    assert (found.poll_interval, found.lookback_hours, found.tick_seconds) == (60.0, 2.0, 15)
    assert (found.session_window_seconds, found.shard_idle_seconds, found.idle_lag_seconds) == (7200, 120.0, 180.0)
    assert (found.timestamp_offset_ms, found.backfill_window, found.drain_seconds) == (0, 0.0, 25.0)
    assert (found.max_file_bytes, found.max_line_bytes, found.max_bad_lines) == (256 * 2**20, 2**20, 100_000)
    assert found.decoder_rules == DecoderRules(15, DEFAULT_STREAM_PATTERN, Limits())
    assert (found.max_streams, found.max_series, found.push_retry_seconds) == (10_000, 1_000_000, 3600.0)
    assert found.state_path == File(Path("state/state.db"))
    assert found.http_addr == ("127.0.0.1", 9177)
    assert found.log_level is Level.INFO
    assert (found.prometheus_user, found.prometheus_password, dict(found.prometheus_headers)) == (None, None, {})
    assert not found.keep_files
    assert found.doubts == ()


def test_windows_of_viewers_go_together() -> None:
    """A window that is given twice is one; a presence that nobody has set is as long as a longer tick."""
    found = load(ACTIVE_WINDOWS="5m, 24h,300, 2h", TICK_SECONDS="60")
    assert found.timeline_rules.lengths == Lengths((7200, 300, 86_400), presence=60, gap=120)
    assert found.public()["ACTIVE_WINDOWS"] == "300,86400,7200"
    assert load(ACTIVE_WINDOWS="1m,5m").public()["ACTIVE_WINDOWS"] == "60,300"
    assert load().timeline_rules.lengths == Lengths((7200,), presence=30, gap=120)


def test_every_default_and_example_is_itself_valid(tmp_path: Path) -> None:
    """What the table shows an operator is what its own parser takes."""
    for variable in settings.VARIABLES:
        for text in (variable.default, variable.example):
            if text and not text.startswith(("/etc/", "/data/")):
                variable.parse(text)


def test_all_faults_are_reported_together_each_with_its_variable() -> None:
    """One attempt shows everything that is wrong."""
    wrong = {
        "S3_ENDPOINT": "eu-1.cdn77-storage.com",
        "S3_BUCKET": "s3://logs/",
        "S3_PREFIX": "",
        "S3_SECRET_KEY": "",
        "PROMETHEUS_URL": "ftp://host/x",
        "PROMETHEUS_USER": "me",
        "PROMETHEUS_CLIENT_CERT": "/nowhere/cert.pem",
        "POLL_INTERVAL": "soon",
        "TICK_SECONDS": "7",
        "TIMESTAMP_OFFSET_MS": "1000",
        "BACKFILL_WINDOW": "2 weeks",
        "KEEP_FILES": "perhaps",
        "STREAM_PATTERN": "([a-f",
        "GEOIP_DB_PATH": "/nowhere/\x1b.mmdb",
        "HTTP_ADDR": "9177",
        "LOG_LEVEL": "loud",
        "DOWNLOAD_CONCURRENCY": "0",
        "MAX_FILE_BYTES": "much",
    }
    found = faults(**wrong)
    named = {fault.split()[0] for fault in found}
    assert named == set(wrong) - {"PROMETHEUS_USER"} | {"PROMETHEUS_PASSWORD", "PROMETHEUS_CLIENT_KEY"}
    assert all(fault.endswith(".") for fault in found)


@pytest.mark.parametrize(
    ("given_", "says"),
    [
        ({"PROMETHEUS_USER": "me"}, "PROMETHEUS_PASSWORD is not set"),
        ({"PROMETHEUS_PASSWORD": "secret-word"}, "PROMETHEUS_USER is not set"),
        (
            {"PROMETHEUS_USER": "me", "PROMETHEUS_PASSWORD": "p", "PROMETHEUS_BEARER_TOKEN": "t"},
            "PROMETHEUS_BEARER_TOKEN is set beside",
        ),
        (
            {"PROMETHEUS_BEARER_TOKEN": "t", "PROMETHEUS_HEADERS": "authorization: Basic x"},
            "PROMETHEUS_HEADERS has an Authorization header",
        ),
        ({"PROMETHEUS_USER": "a:b", "PROMETHEUS_PASSWORD": "p"}, "PROMETHEUS_USER has a colon"),
        ({"PROMETHEUS_URL": "https://me:pw@host/write"}, "PROMETHEUS_URL has a login in the URL"),
        ({"S3_SECRET_KEY_FILE": "/run/secrets/x"}, "S3_SECRET_KEY and S3_SECRET_KEY_FILE are both set"),
        ({"SESSION_WINDOW_SECONDS": "10"}, "SESSION_WINDOW_SECONDS (10) is shorter than TICK_SECONDS (15)"),
        ({"ACTIVE_WINDOWS": "5m,10"}, "ACTIVE_WINDOWS has one (10) shorter than TICK_SECONDS (15); set"),
        ({"ACTIVE_WINDOWS": "5m,soon"}, "ACTIVE_WINDOWS (`5m,soon`) is not a duration"),
        ({"ACTIVE_WINDOWS": "8d"}, "ACTIVE_WINDOWS (`8d`) is out of range"),
        (
            {"ACTIVE_WINDOWS": "1m,2m,3m,4m,5m,6m,7m,8m,9m"},
            "ACTIVE_WINDOWS (`1m,2m,3m,4m,5m,6m,7m,8m,9m`) has 9 windows; expected at most 8",
        ),
        ({"PRESENCE_SECONDS": "10"}, "PRESENCE_SECONDS (10) is shorter than TICK_SECONDS (15); set at least one tick"),
        ({"SESSION_GAP_SECONDS": "20"}, "SESSION_GAP_SECONDS (20) is shorter than PRESENCE_SECONDS (30); set at least"),
        ({"QUARANTINE_PREFIX": "/real-time-logs/all-logs/bad/"}, "QUARANTINE_PREFIX (`real-time-logs/all-logs/bad`)"),
        ({"QUARANTINE_PREFIX": "/"}, "QUARANTINE_PREFIX is the whole bucket"),
        ({"STATE_PATH": "s3://logs/real-time-logs/all-logs"}, "STATE_PATH (`s3://logs/real-time-logs/all-logs`)"),
        ({"STATE_PATH": "s3://logs/20260101/x", "S3_PREFIX": "/"}, "STATE_PATH (`s3://logs/20260101/x`)"),
        ({"STATE_PATH": "/"}, "STATE_PATH (`/`) is a folder"),
        ({"STREAM_PATTERN": "(a)(b)"}, "STREAM_PATTERN (`(a)(b)`) has 2 groups"),
        ({"STREAM_PATTERN": "abc"}, "STREAM_PATTERN (`abc`) has 0 groups"),
        ({"PROMETHEUS_HEADERS": "Content-Type: text/plain"}, "PROMETHEUS_HEADERS has a header that the exporter sets"),
        ({"PROMETHEUS_HEADERS": "no colon here"}, "PROMETHEUS_HEADERS has a part without a colon"),
        ({"S3_SECRET_KEY": "two\nlines"}, "S3_SECRET_KEY has control characters"),
        ({"S3_PREFIX": "a/../b"}, "S3_PREFIX (`a/../b`) is not a folder"),
        ({"S3_ENDPOINT": "https://host/path"}, "S3_ENDPOINT (`https://host/path`) has more than a host"),
        ({"STREAM_ALLOWLIST": "./nowhere.txt"}, "STREAM_ALLOWLIST (`./nowhere.txt`) cannot be read"),
        ({"STREAM_ALLOWLIST": "/dev/zero"}, "STREAM_ALLOWLIST (`/dev/zero`) cannot be used: it is a device"),
        ({"DASK_SCHEDULER": "scheduler"}, "DASK_SCHEDULER (`scheduler`) is not"),
        ({"HTTP_ADDR": "[::g]:80"}, "HTTP_ADDR (`[::g]:80`) is not"),
        ({"POLL_INTERVAL": "2h"}, "POLL_INTERVAL (`2h`) is out of range"),
        ({"LOOKBACK_HOURS": "nan"}, "LOOKBACK_HOURS (`nan`) is out of range"),
    ],
)
def test_each_fault_names_its_variable_and_what_is_wrong(given_: dict[str, str], says: str) -> None:
    """A configuration with one fault is told exactly that one."""
    found = faults(**given_)
    assert len(found) == 1
    assert found[0].startswith(says)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("BACKFILL_WINDOW", "2h", 7200.0),
        ("BACKFILL_WINDOW", "90", 90.0),
        ("POLL_INTERVAL", "1.5m", 90.0),
        ("POLL_INTERVAL", " 15s ", 15.0),
        ("S3_PREFIX", "///", ""),
        ("S3_PREFIX", "/a/b/", "a/b"),
        ("S3_ENDPOINT", "http://127.0.0.1:9000/", "http://127.0.0.1:9000"),
        ("MAX_FILE_BYTES", "64KiB", 65_536),
        ("KEEP_FILES", "Yes", True),
        ("STATE_PATH", "OFF", Off()),
        ("STATE_PATH", "/var/state.db", File(Path("/var/state.db"))),
        ("STATE_PATH", "s3://other/prefix/", InBucket("other", "prefix")),
        ("HTTP_ADDR", "off", None),
        ("HTTP_ADDR", "[::1]:80", ("::1", 80)),
        ("HTTP_ADDR", ":9177", ("0.0.0.0", 9177)),
        ("LOG_LEVEL", "WARNING", Level.WARNING),
        ("DECODE_WORKERS", "2", 2),
        ("MAX_SERIES", "2_000_000", 2_000_000),
    ],
)
def test_values_are_normalised(name: str, text: str, value: object) -> None:
    """The forms that an operator may write mean the same thing."""
    assert getattr(load(**{name: text}), name.lower()) == value


def test_words_stand_for_numbers_where_the_table_says_so() -> None:
    """`random` draws an offset within the range, and `auto` asks for at least one worker."""
    assert 0 <= load(TIMESTAMP_OFFSET_MS="random").timestamp_offset_ms <= 999
    assert load(DECODE_WORKERS="auto").decode_workers >= 1


def test_there_are_as_many_places_for_files_as_keep_busy_what_decodes() -> None:
    """By itself; a number that is set stays as it is."""
    assert load().download_concurrency == 8
    assert load(DECODE_WORKERS="1").download_concurrency == 8
    assert load(DECODE_WORKERS="3").download_concurrency == 16
    assert load(DECODE_WORKERS="256").download_concurrency == 256
    assert load(DASK_SCHEDULER="tcp://scheduler:8786").download_concurrency == 32
    assert load(DECODE_WORKERS="3", DOWNLOAD_CONCURRENCY="5").download_concurrency == 5
    assert load(DASK_SCHEDULER="tcp://scheduler:8786", DOWNLOAD_CONCURRENCY="AUTO").download_concurrency == 32


def test_an_empty_variable_is_an_unset_one() -> None:
    """Compose files pass empty variables on; they mean the default."""
    assert load(POLL_INTERVAL="", PROMETHEUS_USER="", GEOIP_DB_PATH=" ") is not None


def test_a_misspelt_variable_is_told() -> None:
    """A name that is close to a known one is a doubt, and part of the fault when the known one is missing."""
    assert load(POLL_INTERVALL="30").doubts == (("POLL_INTERVALL", "unknown setting; did you mean POLL_INTERVAL?"),)
    assert load(PROMETHEUS_MULTIPROC_DIR="/x", PATH="/bin", S3_USE_X="1", AWS_CA_BUNDLE="/x").doubts == ()
    wrong = {name: value for name, value in LEAST.items() if name != "S3_ENDPOINT"} | {"S3_ENDPIONT": "https://x"}
    with pytest.raises(ConfigError) as caught:
        settings.load(wrong)
    assert caught.value.faults[0].endswith("(S3_ENDPIONT is set: did you mean S3_ENDPOINT?).")


def test_a_login_in_clear_over_the_network_is_doubted() -> None:
    """A password over http is told, but not to this machine itself."""
    login = {"PROMETHEUS_USER": "me", "PROMETHEUS_PASSWORD": "secret-word"}
    assert [name for name, _ in load(PROMETHEUS_URL="http://prometheus:9090/api/v1/write", **login).doubts] == [
        "PROMETHEUS_URL"
    ]
    assert load(PROMETHEUS_URL="http://127.0.0.1:9090/api/v1/write", **login).doubts == ()


def test_a_folder_for_files_that_are_kept_is_doubted() -> None:
    """With KEEP_FILES nothing is ever moved to QUARANTINE_PREFIX, and that is told; each alone is no doubt."""
    assert [name for name, _ in load(QUARANTINE_PREFIX="aside", KEEP_FILES="true").doubts] == ["QUARANTINE_PREFIX"]
    assert load(QUARANTINE_PREFIX="aside").doubts == load(KEEP_FILES="true").doubts == ()


def test_an_allowlist_is_a_pattern_or_a_file(tmp_path: Path) -> None:
    """Both forms decide by the whole name, are equal when they say the same, and go to another process."""
    path = tmp_path / "streams.txt"
    path.write_text("# ours\nabc\n\n  def  \n")
    by_file = load(STREAM_ALLOWLIST=str(path)).stream_allowlist
    by_pattern = load(STREAM_ALLOWLIST="ab.").stream_allowlist
    assert by_file is not None and by_pattern is not None
    assert [by_file(name) for name in ("abc", "def", "abcd", "# ours", "")] == [True, True, False, False, False]
    assert [by_pattern(name) for name in ("abc", "abcd", "xabc")] == [True, False, False]
    assert pickle.loads(pickle.dumps(by_file)) == by_file  # noqa: S301 - its own bytes


@pytest.mark.parametrize("text", ["off", "state/state.db", "s3://other/prefix"])
def test_a_place_of_the_state_is_shown_as_it_was_written(text: str) -> None:
    """The public form of the settings has what the operator wrote."""
    assert load(STATE_PATH=text).public()["STATE_PATH"] == text


def test_a_side_that_is_not_contacted_needs_no_variables() -> None:
    """Without bucket and receiver the defaults suffice; what is set is still judged."""
    found = settings.load({}, bucket=False, receiver=False)
    assert found.tick_seconds == 15
    with pytest.raises(ConfigError) as caught:
        settings.load({"S3_BUCKET": "a/b", "TICK_SECONDS": "7"}, bucket=False, receiver=False)
    assert [fault.split()[0] for fault in caught.value.faults] == ["S3_BUCKET", "TICK_SECONDS"]


def test_some_variables_can_be_loaded_alone() -> None:
    """Faults of the others are not told, and all of theirs are."""
    environ = {"TICK_SECONDS": "30", "S3_BUCKET": "a/b", "MAX_LINE_BYTES": ""}
    assert settings.load_some(["TICK_SECONDS", "MAX_LINE_BYTES"], environ) == {
        "tick_seconds": 30,
        "max_line_bytes": 2**20,
    }
    with pytest.raises(ConfigError) as caught:
        settings.load_some(["TICK_SECONDS", "S3_BUCKET"], environ | {"TICK_SECONDS": "7"})
    assert [fault.split()[0] for fault in caught.value.faults] == ["S3_BUCKET", "TICK_SECONDS"]


# Secrets


@pytest.mark.parametrize("name", [variable.name for variable in settings.VARIABLES if variable.from_file])
def test_every_secret_can_come_from_a_file(name: str, tmp_path: Path) -> None:
    """A `_FILE` variable is read, without the line break that editors leave."""
    path = tmp_path / "secret"
    path.write_text("X-Tenant: from-file\n" if name == "PROMETHEUS_HEADERS" else "from-file\r\n")
    env = {key: value for key, value in LEAST.items() if key != name} | {f"{name}_FILE": str(path)}
    env |= {"PROMETHEUS_USER": {"PASSWORD": "me"}.get(name.removeprefix("PROMETHEUS_"), "")}
    env |= {"PROMETHEUS_PASSWORD": {"USER": "word"}.get(name.removeprefix("PROMETHEUS_"), "")}
    value = getattr(settings.load(env), name.lower())
    if isinstance(value, Headers):
        assert dict(value) == {"X-Tenant": "from-file"}
    else:
        assert (value.reveal() if isinstance(value, Secret) else value) == "from-file"


@pytest.mark.parametrize("body", [b"", b"\n", b"\xff\xfe", b"x" * 70_000, b"a\x00b"])
def test_a_secrets_file_that_makes_no_sense_is_a_fault(body: bytes, tmp_path: Path) -> None:
    """An empty, binary or huge file is refused, and nothing of it is shown."""
    path = tmp_path / "secret"
    path.write_bytes(body)
    env = {key: value for key, value in LEAST.items() if key != "S3_SECRET_KEY"}
    with pytest.raises(ConfigError) as caught:
        settings.load(env | {"S3_SECRET_KEY_FILE": str(path)})
    assert len(caught.value.faults) == 1
    assert caught.value.faults[0].startswith("S3_SECRET_KEY_FILE ")


def test_a_secret_is_read_anew_when_its_file_changes(tmp_path: Path) -> None:
    """A replaced file gives the new value; the old one stays while there is none, and is masked for good."""
    path = tmp_path / "secret"
    path.write_text("first-value")
    env = {key: value for key, value in LEAST.items() if key != "S3_SECRET_KEY"}
    loaded = settings.load(env | {"S3_SECRET_KEY_FILE": str(path)})
    secret = loaded.s3_secret_key
    assert (secret.reveal(), loaded.changed_secrets()) == ("first-value", [])
    new = tmp_path / "new"
    new.write_text("other-value")
    new.replace(path)
    assert secret.reveal() == "other-value"
    assert loaded.changed_secrets() == ["S3_SECRET_KEY"]
    assert loaded.changed_secrets() == []
    path.unlink()
    assert secret.reveal() == "other-value"
    path.write_text("")
    assert secret.reveal() == "other-value"
    path.write_text("third-value")
    assert secret.reveal() == "third-value"
    assert loaded.masker()("first-value other-value third-value") == "*** *** ***"


@pytest.mark.guarantee("copies.secrets")
def test_headers_are_read_anew_when_their_file_changes(tmp_path: Path) -> None:
    """The mapping that the writer holds gives the headers of the file as it is now."""
    path = tmp_path / "headers"
    path.write_text("X-Token: one")
    loaded = load(PROMETHEUS_HEADERS_FILE=str(path))
    headers = loaded.prometheus_headers
    assert (dict(headers), loaded.changed_secrets()) == ({"X-Token": "one"}, [])
    path.write_text("X-Token: two; X-More: three")
    assert loaded.changed_secrets() == ["PROMETHEUS_HEADERS"]
    assert dict(headers) == {"X-Token": "two", "X-More": "three"}
    path.write_text("nonsense")
    assert dict(headers) == {"X-Token": "two", "X-More": "three"}


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("A: 1", {"A": "1"}),
        ("A: 1; B: x:y ;", {"A": "1", "B": "x:y"}),
        ("A: 1\nB: 2\r\n", {"A": "1", "B": "2"}),
        ('{"A": "1; 2"}', {"A": "1; 2"}),
    ],
)
def test_headers_have_three_forms(text: str, pairs: dict[str, str]) -> None:
    """Semicolons, line breaks and JSON."""
    assert parse_headers(text) == pairs


@given(st.text())
def test_any_text_for_headers_is_taken_or_refused(text: str) -> None:
    """Nothing but a ValueError comes out of the parser."""
    with contextlib.suppress(ValueError):
        parse_headers(text)


words = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=8, max_size=60)


@given(words, words, words)
def test_secrets_show_in_no_text_of_the_settings(key: str, secret: str, password: str) -> None:
    """repr, str, format, the public form, faults and tracebacks hold none of them."""
    token = "token" * 2  # not whole in this source, which a traceback quotes
    env = LEAST | {
        "S3_ACCESS_KEY": f"k{key}",
        "S3_SECRET_KEY": f"s{secret}",
        "PROMETHEUS_USER": "me",
        "PROMETHEUS_PASSWORD": f"p{password}",
        "PROMETHEUS_HEADERS": f"X-Token: {token}",
    }
    loaded = settings.load(env)
    shown = [repr(loaded), str(loaded), f"{loaded}", repr(loaded.public()), repr(dataclasses.asdict(loaded))]
    shown += [repr(loaded.s3_secret_key), f"{loaded.s3_secret_key:>3}", repr(loaded.prometheus_headers)]
    try:
        # The secrets once more where they do not belong: an operator who mixes variables up must not publish them.
        mixed = {"POLL_INTERVAL": f"s{secret}", "S3_BUCKET": f"p{password}/", "PROMETHEUS_URL": f"k{key}"}
        settings.load(env | mixed | {"LOG_LEVEL": token, "PROMETHEUS_HEADERS": token})
    except ConfigError:
        shown.append(traceback.format_exc())
    assert len(shown) == 9
    for value in (f"k{key}", f"s{secret}", f"p{password}", token):
        assert not any(value in text for text in shown)


def test_a_secret_from_a_file_is_not_shown_by_a_fault(tmp_path: Path) -> None:
    """The content of a secret's file, put where it does not belong, is not quoted."""
    path = tmp_path / "secret"
    path.write_text("content-of-the-file")
    found = faults(PROMETHEUS_USER="me", PROMETHEUS_PASSWORD_FILE=str(path), POLL_INTERVAL="content-of-the-file")
    assert found == ["POLL_INTERVAL is not a duration; " + found[0].partition("; ")[2]]


def test_a_secret_neither_pickles_nor_copies() -> None:
    """A secret cannot leave the process by pickling, and a copy is the same object."""
    secret = Secret("word")
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        pickle.dumps(load())
    assert copy.deepcopy(secret) is secret and copy.copy(secret) is secret


def test_a_token_in_the_url_is_masked() -> None:
    """Some receivers take a token in the query; it is not shown."""
    loaded = load(PROMETHEUS_URL="https://host.example.com/write?token=abcdefgh")
    assert loaded.prometheus_url.endswith("abcdefgh")
    assert loaded.public()["PROMETHEUS_URL"] == "https://host.example.com/write?***"
    assert "abcdefgh" not in loaded.masker()("POST /write?token=abcdefgh")


@examples(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.sampled_from([variable.name for variable in settings.VARIABLES]), st.text(max_size=30), max_size=8
    )
)
def test_any_environment_is_taken_or_refused_with_sentences(more: dict[str, str]) -> None:
    """Whatever the variables hold, the answer is settings or a ConfigError."""
    try:
        settings.load(LEAST | more)
    except ConfigError as error:
        assert error.faults
        assert all(fault.endswith(".") for fault in error.faults)


def test_the_process_environment_is_left_alone() -> None:
    """Loading reads its argument and changes nothing."""
    before = dict(os.environ)
    given_ = dict(LEAST)
    settings.load(given_)
    assert (dict(os.environ), given_) == (before, LEAST)


@pytest.mark.guarantee("copies.no_places")
def test_a_geoip_database_that_is_not_there_is_a_doubt() -> None:
    """The service runs without it until it comes."""
    found = load(GEOIP_DB_PATH="/nowhere/city.mmdb")
    assert [variable for variable, _ in found.doubts] == ["GEOIP_DB_PATH"]
    assert str(found.geoip_db_path) == "/nowhere/city.mmdb"


@pytest.mark.guarantee("files.no_stream")
def test_rules_of_streams_are_the_pattern_and_the_allowlist(tmp_path: Path) -> None:
    """Other rules are told apart, two files of as many names too, since no event was seen by them yet."""
    for name in "ab":
        (tmp_path / name).write_text(f"one\n{name}\n")
    lists = ("x", "y", str(tmp_path / "a"), str(tmp_path / "b"))
    found = [{}, {"STREAM_PATTERN": "/(x)/"}, *({"STREAM_ALLOWLIST": one} for one in lists)]
    assert len({load(**each).stream_rules for each in found}) == len(found)
    assert load(TICK_SECONDS="30").stream_rules == load().stream_rules

"""What the status page is told, and by what bounds."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from cdn77_exporter import __version__, settings
from cdn77_exporter.status.gather import Overview
from cdn77_exporter.status.page import Page
from cdn77_exporter.status.server import StatusServer
from cdn77_exporter.telemetry.logger import Telemetry
from cdn77_exporter.telemetry.messages import MESSAGES
from tests.support.settings import LEAST

LOOPBACK = ("127.0.0.1", 0)


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 1_768_056_570.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def telemetry(clock: Clock) -> Telemetry:
    return Telemetry(settings.load(LEAST).masker(), stream=io.BytesIO(), now=clock)


@pytest.fixture
def overview(telemetry: Telemetry, clock: Clock) -> Overview:
    return Overview(settings.load(LEAST), telemetry, clock)


@pytest.fixture
async def server(overview: Overview, telemetry: Telemetry) -> AsyncIterator[StatusServer]:
    page = Page(overview.status, __version__, listeners=2, seconds=0.02)
    async with StatusServer(LOOPBACK, telemetry, page.routes()) as found:
        yield found


@pytest.fixture
async def client(server: StatusServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
        yield session


async def ask(client: aiohttp.ClientSession, path: str) -> Any:
    async with client.get(path) as answer:
        assert answer.status == 200
        return await answer.json()


@pytest.mark.slow
async def test_the_api_is_what_its_description_says(client: aiohttp.ClientSession, telemetry: Telemetry) -> None:
    """The OpenAPI document is valid, names every path, and the status fits its schema, with trouble and without."""
    import jsonschema  # these two take seconds to import, which no other test here needs
    from openapi_spec_validator import validate

    description = await ask(client, "/api/openapi.json")
    validate(description)
    for path in description["paths"]:
        async with client.get(path) as answer:
            assert str(answer.status) in description["paths"][path]["get"]["responses"]
    schema = {**description["paths"]["/api/status"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]}
    schema["components"] = description["components"]
    jsonschema.validate(await ask(client, "/api/status"), schema, cls=jsonschema.Draft202012Validator)
    telemetry("poll_failed", error="no such bucket", remedy="look at S3_BUCKET")
    telemetry.problems.found("bucket", "no such bucket", "look at S3_BUCKET")
    await asyncio.sleep(0.03)  # a status is kept for half an interval
    told = await ask(client, "/api/status")
    jsonschema.validate(told, schema, cls=jsonschema.Draft202012Validator)
    assert "bucket" in [problem["what"] for problem in told["problems"]]
    assert told["verdict"] == {"colour": "red", "headline": "No such bucket"}
    assert (told["ready"], told["working"], told["version"]) == (False, False, __version__)
    assert (told["warnings"][1]["message"], told["warnings"][1]["text"]) == (
        "poll_failed",
        "error: no such bucket, remedy: look at S3_BUCKET",
    )


async def test_settings_are_shown_without_secrets(client: aiohttp.ClientSession) -> None:
    """Every variable with its value in force, and no secret."""
    told = await ask(client, "/api/status")
    assert (told["settings"]["S3_BUCKET"], told["settings"]["POLL_INTERVAL"]) == ("logs", "60")
    assert LEAST["S3_SECRET_KEY"] not in json.dumps(told)
    assert told["settings"]["S3_SECRET_KEY"] == "***"


async def test_the_page_loads_nothing_from_elsewhere(client: aiohttp.ClientSession) -> None:
    """Its policy allows only its own files, which are there, and nothing in them is inline."""
    for path, media in (
        ("/", "text/html"),
        ("/page.css", "text/css"),
        ("/page.js", "text/javascript"),
        ("/icon.svg", "image/svg+xml"),
    ):
        async with client.get(path) as answer:
            assert (answer.status, answer.content_type) == (200, media)
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            text = await answer.text()
            assert "style=" not in text
            assert "https://" not in text


async def test_events_are_bounded(client: aiohttp.ClientSession) -> None:
    """Each listener gets the status again and again; one too many is turned away until another has gone."""
    async with client.get("/api/events") as first, client.get("/api/events") as second:
        for answer in (first, second):
            for _ in range(3):
                assert await answer.content.readline() == b"event: status\n"
                assert json.loads((await answer.content.readline()).removeprefix(b"data: "))["version"] == __version__
                assert await answer.content.readline() == b"\n"
        async with client.get("/api/events") as third:
            assert third.status == 503
        second.close()
        async with asyncio.timeout(10):
            while True:
                async with client.get("/api/events") as again:
                    if again.status == 200:
                        break


async def test_the_history_holds_an_hour(overview: Overview, telemetry: Telemetry, clock: Clock) -> None:
    """Steps hold what has grown in them, by the second; after an hour the oldest go."""
    await overview.measure()
    fields = {field.name: 0 for field in MESSAGES["file_counted"].fields}
    for step in range(300):
        clock.now += 15
        telemetry("file_counted", **{**fields, "rejects": {}, "ignored": {}, "key": "k", "shard": "1", "events": step})
        if step == 299:
            telemetry("push_retried", attempt=1, error="away", wait_seconds=1)
        await overview.measure()
    history = overview.status().history
    assert history.until == clock.now
    assert history.events_per_second == [round(step / 15, 2) for step in range(60, 300)]
    assert history.failed_attempts == [0.0] * 239 + [1.0]
    assert history.lag_seconds == [None] * 240


async def test_rejects_have_their_meaning(overview: Overview, telemetry: Telemetry) -> None:
    """Reasons that have occurred, the most frequent first; the example comes with the pipeline."""
    fields = {field.name: 0 for field in MESSAGES["file_counted"].fields}
    rejects = {"not_json": 2, "bad_path": 5, "too_old": 0}
    telemetry("file_counted", **{**fields, "key": "k", "shard": "1", "rejects": rejects, "ignored": {}})
    shown = [(reject.reason, reject.lines, reject.example) for reject in overview.status().rejects]
    assert shown == [("bad_path", 5, None), ("not_json", 2, None)]

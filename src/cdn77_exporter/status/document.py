"""The answer of `/api/status`, one type for each part; its OpenAPI description is made from the same types."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from cdn77_exporter.core.watermark import ShardState
from cdn77_exporter.telemetry.problems import Problem

Seconds = Annotated[float, Meta(description="Seconds.")]
Instant = Annotated[float, Meta(description="Unix time in seconds.")]
Count = Annotated[int, Meta(ge=0)]


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of the pipeline and the queue behind it."""

    name: Annotated[str, Meta(description="list, fetch, decode, count, push or delete, in this order.")]
    holds: Annotated[Count, Meta(description="The content of the stage now, in `unit`.")]
    unit: Annotated[str, Meta(description="The unit of `holds`, in the plural.")]
    limit: Annotated[
        int | None, Meta(description="The limit of `holds`; null when only the bucket or the disk limits it.")
    ]
    queue: Annotated[int | None, Meta(description="Items in the queue behind the stage; null behind the last.")]
    capacity: Annotated[int | None, Meta(description="The capacity of that queue.")]
    note: Annotated[str, Meta(description="A remark on the stage, in a few words.")]


class Shard(msgspec.Struct, frozen=True, kw_only=True):
    """One writer of log files."""

    name: str
    newest: Annotated[float | None, Meta(description="Its newest event, Unix seconds; null for none yet.")]
    state: Annotated[
        ShardState,
        Meta(description="current: the watermark waits for it; lagging: it is not waited for; silent: it has ended."),
    ]
    waiting: Annotated[Count, Meta(description="Its files that are listed and not counted yet.")]
    first: Annotated[int | None, Meta(description="The sequence number from which on files are known.")]
    highest: Annotated[int | None, Meta(description="The highest sequence number that was counted since the start.")]
    missing: Annotated[Count, Meta(description="Sequence numbers that were passed over.")]
    gaps: Annotated[list[tuple[int, int]], Meta(description="The last of them: first and last number of each gap.")]


class Completeness(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of counting."""

    watermark: Annotated[float | None, Meta(description="Everything before it is counted; Unix seconds.")]
    lag_seconds: Annotated[float | None, Meta(description="The clock less the watermark.")]
    written: Annotated[float | None, Meta(description="The last tick that was committed for the receiver.")]
    shards: Annotated[list[Shard], Meta(description="Lagging ones first, then current ones; at most 100.")]
    shards_known: Annotated[Count, Meta(description="The number of all shards.")]


class Push(msgspec.Struct, frozen=True, kw_only=True):
    """The progress at the receiver since the start."""

    last_poll: Annotated[float | None, Meta(description="When the bucket was last listed, Unix seconds.")]
    last_push: Annotated[float | None, Meta(description="When a batch was last finished, Unix seconds.")]
    accepted: Annotated[Count, Meta(description="Batches that the receiver accepted.")]
    incomplete: Annotated[Count, Meta(description="Batches of which a request was refused or dropped.")]
    samples: Count
    retries: Annotated[Count, Meta(description="Requests that were sent again.")]
    refused: Annotated[Count, Meta(description="Requests that were refused permanently.")]
    outbox_requests: Annotated[Count, Meta(description="Requests that are committed and not yet acknowledged.")]
    outbox_bytes: Count
    version: Annotated[
        int | None, Meta(description="The version of remote write in which samples are sent; null before the start.")
    ]
    limit_samples: Annotated[
        int | None, Meta(description="The most samples of a request; null unless the receiver refused larger ones.")
    ]
    limit_bytes: Annotated[int | None, Meta(description="The most bytes of a request before compression, likewise.")]
    owed: Annotated[
        list[Owed], Meta(description="Those not accepted for over a minute, the longest first; at most 20.")
    ]
    owed_series: Annotated[Count, Meta(description="The number of all these series.")]


class Owed(msgspec.Struct, frozen=True, kw_only=True):
    """A series of which the receiver has not accepted everything; files with requests of it are kept."""

    series: str
    accepted: Annotated[float | None, Meta(description="The time of its last accepted sample, Unix seconds.")]


class History(msgspec.Struct, frozen=True, kw_only=True):
    """The last hour, oldest first: one entry for each `step_seconds`, null where nothing was measured."""

    step_seconds: Seconds
    until: Instant
    events_per_second: list[float | None]
    lag_seconds: list[float | None]
    samples_per_second: list[float | None]
    failed_attempts: Annotated[list[float | None], Meta(description="Pushes retried, refused or misconfigured.")]


class Ranked(msgspec.Struct, frozen=True, kw_only=True):
    """A name and its amount."""

    name: str
    amount: float


class Audience(msgspec.Struct, frozen=True, kw_only=True):
    """Viewers and bandwidth at the last settled tick."""

    tick: Annotated[float | None, Meta(description="Unix seconds.")]
    viewers: Annotated[float, Meta(description="Active viewers of all streams, in the session window.")]
    watching: Annotated[float, Meta(description="Players of all streams that are watching now.")]
    watch_seconds: Annotated[float, Meta(description="Watch time of all streams that their counters hold.")]
    sessions: Annotated[float, Meta(description="Sessions of all streams that their counters hold.")]
    bits_per_second: Annotated[float, Meta(description="Of all streams, over the last minute of settled ticks.")]
    streams: Annotated[Count, Meta(description="Streams that are counted under their own names.")]
    streams_by_viewers: list[Ranked]
    streams_by_watching: Annotated[list[Ranked], Meta(description="Players that are watching now.")]
    streams_by_watch_time: Annotated[list[Ranked], Meta(description="Seconds, since their counters began.")]
    streams_by_sessions: Annotated[list[Ranked], Meta(description="Sessions, since their counters began.")]
    streams_by_bandwidth: Annotated[list[Ranked], Meta(description="Bits per second.")]
    devices: Annotated[list[Ranked], Meta(description="Active viewers.")]
    countries: Annotated[list[Ranked], Meta(description="Active viewers.")]
    pops: Annotated[list[Ranked], Meta(description="Bits per second.")]


class UnknownAgent(msgspec.Struct, frozen=True, kw_only=True):
    """A User-Agent that no device rule knows, with nothing personal in it."""

    user_agent: Annotated[str, Meta(description="Without percent-encoding, cut short; addresses are masked.")]
    requests: Annotated[Count, Meta(description="At least so many, since the start.")]
    share: Annotated[float, Meta(description="Of all requests, from 0 to 1.")]


class UnknownAgents(msgspec.Struct, frozen=True, kw_only=True):
    """Requests whose device type is `other` because no rule knows their User-Agent."""

    share: Annotated[float, Meta(description="Of all requests since the start, from 0 to 1.")]
    frequent: Annotated[list[UnknownAgent], Meta(description="The most frequent first; at most 20.")]


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """A line that was rejected, with nothing personal in it."""

    key: Annotated[str, Meta(description="The file's key.")]
    line: Annotated[int, Meta(description="The line's number in the file, from 1.")]
    excerpt: Annotated[str, Meta(description="The beginning of the line; addresses and secrets are masked.")]


class Reject(msgspec.Struct, frozen=True, kw_only=True):
    """Rejected lines of one reason."""

    reason: str
    meaning: str
    lines: Annotated[Count, Meta(description="Since the start.")]
    example: Example | None


class Ignored(msgspec.Struct, frozen=True, kw_only=True):
    """Malformed values of one field, which were ignored: their lines count all the same."""

    field: str
    values: Annotated[Count, Meta(description="Since the start.")]
    key: Annotated[str, Meta(description="The last file with one.")]


class Aside(msgspec.Struct, frozen=True, kw_only=True):
    """A file that cannot be read and is not tried again."""

    key: str
    reason: str
    meaning: str
    detail: Annotated[str, Meta(description="What was found, such as the number of lines and one of them.")]
    size: Annotated[Count, Meta(description="Bytes.")]


class Warned(msgspec.Struct, frozen=True, kw_only=True):
    """One of the last warnings and errors, as in the log."""

    timestamp: str
    level: str
    message: str
    text: Annotated[str, Meta(description="Its fields, in a line.")]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The state in a word and a sentence; the page's title says the same."""

    colour: Annotated[
        Literal["green", "amber", "red", "waiting"],
        Meta(description="green: up to date, and nothing is missing; waiting: this process does not count now."),
    ]
    headline: str


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the exporter."""

    version: str
    now: Instant
    started: Instant
    verdict: Verdict
    ready: Annotated[bool, Meta(description="Whether nothing but amber problems hold, as `/readyz` says.")]
    working: Annotated[bool, Meta(description="False while it starts or stands by.")]
    stopping: bool
    problems: list[Problem]
    pipeline: list[Stage]
    completeness: Completeness
    push: Push
    history: History
    audience: Audience
    unknown_agents: UnknownAgents
    rejects: list[Reject]
    ignored: Annotated[list[Ignored], Meta(description="The most frequent first.")]
    aside: Annotated[list[Aside], Meta(description="At most 50.")]
    aside_files: Annotated[Count, Meta(description="The number of all files set aside.")]
    warnings: Annotated[list[Warned], Meta(description="The newest first; at most 20.")]
    settings: Annotated[dict[str, str], Meta(description="The settings; secrets are masked.")]


_TEXT = {"type": "string"}
_OBJECT = {"type": "object"}


def description(version: str) -> dict[str, Any]:
    """Return the OpenAPI document of the status server."""
    (status,), parts = msgspec.json.schema_components([Status], ref_template="#/components/schemas/{name}")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "cdn77_exporter",
            "version": version,
            "summary": "The state of the exporter. It answers questions and changes nothing.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/": _get("page", "The status page.", "text/html"),
            "/metrics": _get("metrics", "The self-metrics in the Prometheus text format.", "text/plain"),
            "/healthz": _get("healthz", "Whether the process is alive.", "application/json", _OBJECT),
            "/readyz": _get(
                "readyz",
                "Whether the service is ready, what is wrong, and what to do.",
                "application/json",
                _OBJECT,
                "503",
            ),
            "/api/status": _get("status", "Everything that the status page shows.", "application/json", status),
            "/api/events": _get(
                "events", "The same as server-sent events, one every two seconds.", "text/event-stream", _TEXT, "503"
            ),
            "/api/openapi.json": _get("openapi", "This document.", "application/json", _OBJECT),
        },
        "components": {"schemas": parts},
    }


def _get(
    name: str, summary: str, media: str, schema: dict[str, Any] | None = None, refusal: str = ""
) -> dict[str, Any]:
    responses = {"200": {"description": summary, "content": {media: {"schema": schema or _TEXT}}}}
    if refusal:
        responses[refusal] = {"description": "Not now.", "content": {"application/json": {"schema": _OBJECT}}}
    return {"get": {"operationId": name, "summary": summary, "responses": responses}}

"""The other ways to the same numbers: `python -m bench.engines WAY [--digest] FILE...`, each with one thread.

Every way sums requests, bytes and times to first byte per tick, stream, CDN, cache status, POP and response status, and
counts the distinct viewers of each stream. `--digest` prints a checksum of all of it, by which they are compared.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

#: tick, stream, CDN, cache status, POP, response status, requests, bytes, sum and number of times to first byte
Group = tuple[int, str, str, str, str, str, int, int, int, int]
#: The groups, and the distinct viewers by stream.
Found = tuple[Iterable[Group], dict[str, int]]

_PATTERN = "/([a-f0-9]{32})/"


def core(paths: list[str], accelerate: bool = True) -> Found:
    """Run the exporter's own decoder, as the service uses it."""
    from bench.data import LATEST_MS  # noqa: PLC0415 - each way imports its own
    from cdn77_exporter.core.columns import join  # noqa: PLC0415
    from cdn77_exporter.core.decode import Decoder  # noqa: PLC0415
    from cdn77_exporter.core.measures import (  # noqa: PLC0415
        RESPONSES,
        TIMES_TO_FIRST_BYTE,
        TRANSFER_BYTES,
        Measures,
    )

    # What the other ways count, too.
    measures = Measures((TRANSFER_BYTES, RESPONSES, *TIMES_TO_FIRST_BYTE))
    decoder, found = Decoder(measures, accelerate=accelerate), []
    for path in paths:
        with open(path, "rb") as file:  # noqa: PTH123
            found.append(decoder.decode(file.read(), latest_ms=LATEST_MS, oldest_ms=0)[1])
    whole = join(found)
    viewers: dict[str, set[int]] = {}
    for profile, address in zip(whole.viewers.profiles.tolist(), whole.viewers.addresses.tolist(), strict=True):
        viewers.setdefault(whole.texts[whole.viewers.labels[profile, 0]], set()).add(address)
    (cube,) = whole.groups
    groups: list[Any] = [
        (tick, *(whole.texts[number] for number in labels), *sums)
        for tick, labels, sums in zip(cube.ticks.tolist(), cube.labels.tolist(), cube.sums.tolist(), strict=True)
    ]
    return groups, {stream: len(addresses) for stream, addresses in viewers.items()}


def read(paths: list[str]) -> Found:
    """Read the lines by gzip and json alone, and count nothing."""
    import gzip  # noqa: PLC0415

    for path in paths:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                json.loads(line)
    return [], {}


def plain(paths: list[str]) -> Found:
    """Count by gzip, json and dicts, as anybody would write it first."""
    import gzip  # noqa: PLC0415
    import re  # noqa: PLC0415
    from datetime import datetime  # noqa: PLC0415

    pattern = re.compile(_PATTERN)
    sums: dict[tuple[Any, ...], list[int]] = {}
    viewers: dict[str, set[str]] = {}
    for path in paths:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                event = json.loads(line)
                found = pattern.search(event["clientRequestPath"])
                if found is None:
                    continue
                stream = found[1]
                tick = int(datetime.fromisoformat(event["timestamp"]).timestamp() // 15 + 1) * 15
                group = (
                    tick,
                    stream,
                    str(event["resourceID"]),
                    event["cacheStatus"] or "UNKNOWN",
                    event["locationID"] or "unknown",
                    str(event["responseStatus"]),
                )
                own = sums.setdefault(group, [0, 0, 0, 0])
                own[0] += 1
                own[1] += event["responseBytes"]
                if event["timeToFirstByteMs"] > 0:
                    own[2] += event["timeToFirstByteMs"]
                    own[3] += 1
                viewers.setdefault(stream, set()).add(event["clientIP"])
    groups: list[Any] = [(*group, *own) for group, own in sums.items()]
    return groups, {stream: len(ips) for stream, ips in viewers.items()}


_COLUMNS = {
    "timestamp": "TIMESTAMP",
    "clientRequestPath": "VARCHAR",
    "resourceID": "BIGINT",
    "cacheStatus": "VARCHAR",
    "locationID": "VARCHAR",
    "responseStatus": "INTEGER",
    "clientIP": "VARCHAR",
    "responseBytes": "BIGINT",
    "timeToFirstByteMs": "BIGINT",
}


def duckdb(paths: list[str]) -> Found:
    """Run DuckDB: one scan into a table of the columns used, then two queries."""
    import duckdb as engine  # noqa: PLC0415

    base = engine.connect(config={"threads": 1})
    base.execute("SET enable_progress_bar = false")
    columns = ", ".join(f"{name}: '{kind}'" for name, kind in _COLUMNS.items())
    base.execute(
        f"""CREATE TEMP TABLE events AS SELECT (epoch_ms("timestamp") // 15000 + 1) * 15 AS tick,
        regexp_extract("clientRequestPath", '{_PATTERN}', 1) AS stream, "resourceID" AS cdn,
        coalesce(nullif("cacheStatus", ''), 'UNKNOWN') AS cache, coalesce(nullif("locationID", ''), 'unknown') AS pop,
        "responseStatus" AS status, "clientIP" AS ip, "responseBytes" AS bytes, "timeToFirstByteMs" AS wait
        FROM read_json(?, format = 'newline_delimited', compression = 'gzip', columns = {{{columns}}})
        WHERE stream <> ''""",  # noqa: S608
        [paths],
    )
    groups = base.execute(
        "SELECT tick, stream, cdn::VARCHAR, cache, pop, status::VARCHAR, count(*), sum(bytes)::BIGINT,"
        " sum(greatest(wait, 0))::BIGINT, count(*) FILTER (wait > 0) FROM events GROUP BY ALL"
    ).fetchall()
    viewers = base.execute("SELECT stream, count(DISTINCT ip) FROM events GROUP BY stream").fetchall()
    return groups, dict(viewers)


def polars(paths: list[str]) -> Found:
    """Run Polars: a scan of the columns used for each file, then two groupings of all."""
    os.environ["POLARS_MAX_THREADS"] = "1"  # before its import
    import polars as engine  # noqa: PLC0415

    column = engine.col
    kinds = {"BIGINT": engine.Int64, "INTEGER": engine.Int64}
    schema = {name: kinds.get(kind, engine.String) for name, kind in _COLUMNS.items()}
    rows = engine.scan_ndjson(paths, schema=schema).select(
        tick=(
            column("timestamp").str.to_datetime("%Y-%m-%dT%H:%M:%S%.3fZ").dt.epoch("ms").floordiv(15_000).add(1).mul(15)
        ),
        stream=column("clientRequestPath").str.extract(_PATTERN, 1),
        cdn=column("resourceID"),
        cache=column("cacheStatus").replace("", "UNKNOWN"),
        pop=column("locationID").replace("", "unknown"),
        status=column("responseStatus"),
        ip=column("clientIP"),
        bytes=column("responseBytes"),
        wait=column("timeToFirstByteMs"),
    )
    events = rows.filter(column("stream").is_not_null()).collect()
    groups = events.group_by("tick", "stream", "cdn", "cache", "pop", "status").agg(
        engine.len(), column("bytes").sum(), column("wait").sum().alias("waited"), (column("wait") > 0).sum().alias("n")
    )
    viewers = events.group_by("stream").agg(column("ip").n_unique())
    return (
        [
            (tick, stream, str(cdn), cache, pop, str(status), *sums)
            for tick, stream, cdn, cache, pop, status, *sums in groups.rows()
        ],
        dict(viewers.rows()),
    )


def chdb(paths: list[str]) -> Found:
    """Run ClickHouse in the process: two queries over the files."""
    import chdb  # noqa: PLC0415

    engine: Any = chdb  # which has no types

    kinds = {"BIGINT": "Int64", "INTEGER": "Int64", "VARCHAR": "String", "TIMESTAMP": "String"}
    columns = ", ".join(f"{name} {kinds[kind]}" for name, kind in _COLUMNS.items())
    names = ",".join(os.path.basename(path) for path in paths)  # noqa: PTH119
    folder = os.path.dirname(paths[0])  # noqa: PTH120
    source = f"file('{folder}/{{{names}}}', JSONEachRow, '{columns}', gzip)"
    stream = f"extract(clientRequestPath, '{_PATTERN}')"
    settings = "SETTINGS max_threads = 1, input_format_parallel_parsing = 0"
    groups = engine.query(
        f"""SELECT toInt64((intDiv(toUnixTimestamp64Milli(parseDateTime64BestEffort(timestamp, 3)), 15000) + 1) * 15),
        {stream} AS stream, toString(resourceID), if(cacheStatus = '', 'UNKNOWN', cacheStatus) AS cache,
        if(locationID = '', 'unknown', locationID) AS pop, toString(responseStatus), toInt64(count()),
        sum(responseBytes), sum(greatest(timeToFirstByteMs, 0)), toInt64(countIf(timeToFirstByteMs > 0))
        FROM {source} WHERE stream <> '' GROUP BY 1, 2, 3, 4, 5, 6 {settings}""",  # noqa: S608
        "JSONCompact",
    )
    viewers = engine.query(
        f"SELECT {stream} AS stream, toInt64(uniqExact(clientIP)) FROM {source} "  # noqa: S608
        f"WHERE stream <> '' GROUP BY 1 {settings}",
        "JSONCompact",
    )
    rows = json.loads(str(groups))["data"]
    found: list[Any] = [
        (int(tick), *labels, *map(int, sums)) for tick, *rest in rows for labels, sums in [(rest[:5], rest[5:])]
    ]
    return found, {name: int(count) for name, count in json.loads(str(viewers))["data"]}


WAYS: dict[str, Callable[[list[str]], Found]] = {
    "core": core,
    "pure": partial(core, accelerate=False),
    "read": read,
    "plain": plain,
    "duckdb": duckdb,
    "polars": polars,
    "chdb": chdb,
}


def digest(groups: Iterable[Group], viewers: dict[str, int]) -> str:
    """Return a checksum of the numbers, the same in whatever order they come."""
    text = json.dumps([sorted(map(list, groups)), sorted(viewers.items())])
    return hashlib.sha256(text.encode()).hexdigest()


def main() -> None:
    """Run the command line."""
    way, *words = sys.argv[1:]
    paths = [word for word in words if word != "--digest"]
    groups, viewers = WAYS[way](paths)
    if "--digest" in words:
        print(digest(groups, viewers))
        return
    requests = size = 0
    for group in groups:
        requests += group[6]
        size += group[7]
    print(json.dumps({"requests": requests, "bytes": size, "viewers": sum(viewers.values())}))


if __name__ == "__main__":
    main()

"""Writes the parts of `docs/` that follow from the code and the benchmark: settings, metrics, log messages, scaling.

`--check` writes nothing and prints which pages are stale.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cdn77_exporter.core.measures import MEASURES
from cdn77_exporter.core.reasons import REJECT_REASONS, UNREADABLE_REASONS
from cdn77_exporter.flow.in_flight import IN_MEMORY, MOVES, OUTSTANDING, At, frees_permit, takes_permit
from cdn77_exporter.settings import SECTIONS, Variable
from cdn77_exporter.telemetry import messages
from cdn77_exporter.telemetry.kinds import Kind
from cdn77_exporter.telemetry.metrics import PREFIX, SELF_METRICS, updated_by

DOCS = Path(__file__).resolve().parent.parent / "docs"
RESULTS = Path(__file__).resolve().parent.parent / "bench" / "results"
_MADE = "<!-- Made by tools/generate_docs.py from the code; change it there. -->"
#: What stands before this line of a page is written by hand, and stays.
MARKER = "<!-- From here on made by tools/generate_docs.py from the code; change it there. -->"


def configuration() -> str:
    """Return the page of environment variables."""
    lines = [
        _MADE,
        "# Configuration",
        "",
        "Everything is set by environment variables. An empty variable is an unset one. All faults are reported "
        "together on stderr before anything is contacted, each with its variable and what would be right, and the exit "
        "code is 2. "
        "A variable that looks misspelt is logged as `setting_doubtful`.",
        "",
        "A variable marked *file* can also be given by a file: `S3_SECRET_KEY_FILE=/run/secrets/s3_secret_key` instead "
        "of `S3_SECRET_KEY`. Line breaks at the file's end do not count. A *secret* is never shown in a log line, an "
        "error or the status page; its file is read again when it changes, so that keys can be replaced without a "
        "restart.",
        "",
        "Durations are seconds, or have a unit: `500ms`, `90s`, `15m`, `2h`, `1d`. Sizes are bytes, or have a unit: "
        "`64KiB`, `256MiB`, `1GiB`. Flags are `true` or `false`.",
    ]
    for title, variables in SECTIONS.items():
        lines += ["", f"## {title}", "", "| variable | default | meaning |", "|---|---|---|"]
        lines += [_variable(variable) for variable in variables]
    return _page(lines)


def _variable(variable: Variable) -> str:
    marks = [mark for mark, is_so in (("secret", variable.secret), ("file", variable.from_file)) if is_so]
    default = "**required**" if variable.required else f"`{variable.default}`" if variable.default else "none"
    meaning = variable.help
    if variable.example:
        meaning += f" Example: `{variable.example}`."
    if marks:
        meaning += f" *{', '.join(marks)}*"
    return f"| `{variable.name}` | {_cell(default)} | {_cell(meaning)} |"


def metrics() -> str:
    """Return the page of the pushed metrics and of the self-metrics."""
    lines = [
        _MADE,
        "# Metrics",
        "",
        "## What is pushed",
        "",
        "Counters are cumulative: use `rate()` and `increase()`. Every query has `offset 90s`, since the newest minute "
        "and a half is still on its way from the CDN.",
    ]
    for metric in MEASURES.rows:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines += ["", f"### `{metric.name}`", "", metric.help, "", f"- kind: {metric.kind}", f"- labels: {labels}"]
        if metric.queries:
            lines += ["", "| question | query |", "|---|---|"]
            lines += [f"| {_cell(question)} | `{_cell(query)}` |" for question, query in metric.queries]
    lines += [
        "",
        "## About the exporter itself",
        "",
        f"Served at `/metrics` of the status server, in the Prometheus text format. Every name begins with `{PREFIX}`. "
        "With them come `build_info` with the version, and the usual `process_*` and `python_*` metrics.",
        "",
        "| metric | kind | labels | meaning |",
        "|---|---|---|---|",
    ]
    for own in SELF_METRICS:
        labels = ", ".join(f"`{label}`" for label, _ in own.labels)
        kind = "gauge" if own.kind is Kind.PROBE else own.kind
        lines.append(f"| `{own.name}` | {kind} | {labels} | {_cell(own.help)} |")
    for title, reasons in (("Reject reasons", REJECT_REASONS), ("Unreadable reasons", UNREADABLE_REASONS)):
        lines += ["", f"### {title}", "", "| reason | meaning |", "|---|---|"]
        lines += [f"| `{reason}` | {_cell(meaning)} |" for reason, meaning in reasons.items()]
    return _page(lines)


def log_messages() -> str:
    """Return the end of the operations page: the meaning of each log message, and what to do."""
    lines = [
        MARKER,
        "",
        "## Log messages",
        "",
        "The service writes one JSON object a line to stdout: `timestamp` (UTC), `level`, `message`, then the fields "
        "of that message. The messages are a closed list. Each file and each batch gets one line, a request gets "
        "none, and no line holds a client's IP address or a secret: both are written as `***`. `LOG_LEVEL` decides "
        "which lines are written; metrics are updated in any case.",
    ]
    for title, section in messages.SECTIONS:
        lines += ["", f"## Messages: {title[:1].lower()}{title[1:]}"]
        for message in section:
            lines += [
                "",
                f"### `{message.name}`",
                "",
                f"*{message.level}.* {message.meaning}",
                "",
                f"What to do: {message.action}",
            ]
            if message.fields:
                lines += ["", "| field | holds | meaning |", "|---|---|---|"]
                lines += [f"| `{field.name}` | {field.holds} | {_cell(field.help)} |" for field in message.fields]
            updated = sorted({f"`{PREFIX}{metric.name}`" for metric in updated_by(message)})
            if updated:
                lines += ["", f"Updates {', '.join(updated)}."]
    return _page(lines)


def scaling() -> str:
    """Return the end of the page on scaling: the figures of the benchmark."""
    lines = [
        MARKER,
        "",
        "## Figures",
        "",
        "By `make bench`, on the machine that [performance](performance.md#the-machine) names; medians. A line of a "
        "table can be compared with the others of its table, since they were measured in turn.",
    ]
    workers, loop, merge = (_measured(part) for part in ("workers", "loop", "merge"))
    lines += ["", "### Decoding alone", "", *(_decoding(workers["found"]) if workers else ["Not measured yet."])]
    lines += ["", "### The whole service", "", *(_service(loop["found"]) if loop else ["Not measured yet."])]
    one = _files_a_second(workers["found"], "one_process") if workers else None
    lines += ["", "### Merging alone", "", *(_merging(merge["found"], one) if merge else ["Not measured yet."])]
    return _page(lines)


def _measured(part: str) -> dict[str, Any] | None:
    path = RESULTS / f"{part}.json"
    found: dict[str, Any] | None = json.loads(path.read_text("utf-8")) if path.is_file() else None
    return found


def _files_a_second(found: dict[str, Any], way: str) -> float:
    return float(found["files"] / found["ways"][way]["wall_seconds"]["median"])


def _decoding(found: dict[str, Any]) -> list[str]:
    """Return the table of threads and processes that only decode."""
    names = {
        "thread": "one thread (`DECODE_WORKERS=0`)",
        "one_process": "one process (`1`)",
        "two_processes": "two processes (`2`)",
    }
    lines = [
        f"Files of {found['lines']:,} lines, of which a process answers {found['files_a_call']} together.",
        "",
        "| decoded by | files a second | lines a second | CPU of the exporter itself, a file |",
        "|---|---|---|---|",
    ]
    for way, name in names.items():
        files = _files_a_second(found, way)
        own = found["ways"][way]["own_cpu_seconds"]["median"] / found["files"] * 1000
        lines.append(f"| {name} | {files:.1f} | {files * found['lines']:,.0f} | {own:.0f} ms |")
    over_one, over_thread = found["two_over_one"], found["two_over_thread"]
    lines += [
        "",
        f"Two processes do {_ratio(over_one)} times what one does, and {_ratio(over_thread)} times what the thread.",
    ]
    return lines


def _ratio(found: dict[str, float]) -> str:
    return f"{found['median']:.2f} ({found['least']:.2f} to {found['most']:.2f})"


def _service(found: dict[str, Any]) -> list[str]:
    """Return the table of the real process, with a server and a receiver on the same two cores."""
    lines = [
        f"The real process works off a backlog of {found['files']} files of {found['lines']:,} lines, with an S3 "
        "server and a receiver on the same machine. The last column says how many writers with such a file every 30 "
        "seconds that is. The event loop is late by less than is said 99 % of the time.",
        "",
        "| `DECODE_WORKERS` | files a second | lines a second | event loop late | writers |",
        "|---|---|---|---|---|",
    ]
    for workers in ("0", "1"):
        row = found[f"workers_{workers}"]
        files, late = row["files_per_second"]["median"], row["p99_seconds"]["median"] * 1000
        each = files * found["lines"]
        lines.append(f"| `{workers}` | {files:.1f} | {each:,.0f} | {late:.0f} ms | {int(files * 30)} |")
    return lines


def _merging(found: dict[str, Any], one_process: float | None) -> list[str]:
    """Return the table of merging in one exporter, whatever decodes."""
    lines = [
        f"Tallies of up to {found['files_a_call']} files of {found['lines']:,} lines are taken in, merged, settled, "
        "encoded and committed. With more writers more files share a tick, so that a file costs less. The last column "
        "says how many processes decode as much as that.",
        "",
        "| writers | CPU a file | tallies a second | files a second | lines a second | processes |",
        "|---|---|---|---|---|---|",
    ]
    for shards, row in zip(found["shards"], found["rows"], strict=True):
        files = row["files_per_second"]
        as_much = f"{files / one_process:.1f}" if one_process else ""
        lines.append(
            f"| {shards} | {row['whole_ms']:.0f} ms | {files / found['files_a_call']:.1f} | {files:.0f} | "
            f"{row['lines_per_second']:,.0f} | {as_much} |"
        )
    return lines


def architecture() -> str:
    """Return the end of the page on the architecture: the life of a file, from the table of its moves."""
    memory, outstanding = (", ".join(at for at in At if at in part) for part in (IN_MEMORY, OUTSTANDING))
    lines = [
        MARKER,
        "",
        "## The life of a file",
        "",
        "`flow/in_flight.py` has the table of the moves that a file may make; any other is an error that ends the "
        "process. From where the files are follows all that the service knows of them: how many are in memory "
        f"({memory}), which shards the watermark waits for ({outstanding}), and the numbers of the status page. A file "
        "that is left, or gone, may be listed again by a later poll.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        f"    [*] --> {_state(At.LISTED)} : a poll finds it",
    ]
    for at, moves in MOVES.items():
        lines += [f"    {_state(at)} --> {_state(to)}{_effects(at, to, message)}" for to, message in moves.items()]
    lines += [f"    {_state(at)} --> [*]" for at in At if at not in MOVES]
    return _page([*lines, "```"])


def _state(at: At) -> str:
    return at.replace(" ", "_")


def _effects(at: At, to: At, message: str | None) -> str:
    """Return the label of a move in the diagram."""
    found = [
        "takes a permit" * takes_permit(at, to),
        "frees its permit" * frees_permit(at, to),
        "its shard waits no more" * (at in OUTSTANDING and to not in OUTSTANDING),
        message or "",
    ]
    label = ", ".join(filter(None, found))
    return f" : {label}" if label else ""


#: Page -> what writes it, or its end when the page has a part that is written by hand.
PAGES = {
    "architecture.md": architecture,
    "configuration.md": configuration,
    "metrics.md": metrics,
    "operations.md": log_messages,
    "scaling.md": scaling,
}


def written(page: Path, write: Callable[[], str]) -> str:
    """Return the whole page as it should be: the part written by hand, if there is one, and the generated part."""
    made = write()
    if not made.startswith(MARKER):
        return made
    by_hand, _, _ = page.read_text("utf-8").partition(MARKER) if page.is_file() else ("", "", "")
    return by_hand + made


def stale(folder: Path = DOCS) -> list[str]:
    """Return the pages that differ from what the code gives now."""
    return [
        name
        for name, write in PAGES.items()
        if not (folder / name).is_file() or (folder / name).read_text("utf-8") != written(folder / name, write)
    ]


def main(words: list[str] | None = None) -> int:
    """Write the pages, or with `--check` print which are stale; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a page is stale")
    if parser.parse_args(words).check:
        pages = stale(DOCS)
        for name in pages:
            print(f"docs/{name} is stale; run tools/generate_docs.py", file=sys.stderr)
        return 1 if pages else 0
    DOCS.mkdir(exist_ok=True)
    for name, write in PAGES.items():
        (DOCS / name).write_text(written(DOCS / name, write), "utf-8")
    return 0


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _page(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())

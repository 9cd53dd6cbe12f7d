"""Writes the pages that say what was measured, from the results that are there, and has the plots drawn."""

from __future__ import annotations

import re
import statistics
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bench.measuring import ROOT, Result, load_result
from bench.parts import PARTS

DOCS = ROOT / "docs"
#: What stands before this line of a page is written by hand, and stays.
MARKER = "<!-- From here on written by `make bench`"
_TEMPLATES = Path(__file__).parent / "templates"


def pages(results: Path, docs: Path = DOCS) -> dict[str, str]:
    """Return name -> text of the pages that the results make, as they should be."""
    parts = {part: load_result(part, results) for part in PARTS}
    by_hand, _, _ = (docs / "scaling.md").read_text("utf-8").partition(MARKER)
    return {
        "performance.md": render("performance.md.j2", parts),
        "scaling.md": by_hand + render("scaling.md.j2", parts),
    }


def write(results: Path, docs: Path = DOCS) -> None:
    """Write the pages, and plots for the parts that there are."""
    from bench.plots import draw  # noqa: PLC0415 - matplotlib is only in the extra

    for name, text in pages(results, docs).items():
        (docs / name).write_text(text, "utf-8")
        print(f"wrote {name}")
    draw({part: result.found for part in PARTS if (result := load_result(part, results)) is not None}, docs / "images")


def render(template: str, parts: dict[str, Result | None]) -> str:
    """Return a template's text for what the parts found; those that were not measured are None."""
    # None of it is HTML. In a template `loop` is what Jinja knows of the innermost loop.
    environment = Environment(  # noqa: S701
        loader=FileSystemLoader(_TEMPLATES),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "spread": spread,
        "at_most": at_most,
        "at_least": at_least,
        "chief": chief,
        "median": statistics.median,
    }
    named: dict[str, Any] = {part if part != "loop" else "loop_": result for part, result in parts.items()}
    measured = [result for result in parts.values() if result is not None]
    text = environment.get_template(template).render(
        **named, machines=_different(measured), one_process=_one_process(parts["workers"])
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def _different(results: list[Result]) -> list[dict[str, Any]]:
    """Return where and with what it was measured; each machine once."""
    found: list[dict[str, Any]] = []
    for result in results:
        if result.machine not in found:
            found.append(result.machine)
    return found


def _one_process(workers: Result | None) -> float | None:
    """Return the files a second that one worker process decodes, of many viewers if that was measured."""
    if workers is None:
        return None
    ways = chief(workers.found["kinds"])["ways"]
    return float(workers.found["files"] / ways["one_process"]["wall_seconds"]["median"])


# Filters of the templates


def spread(of: dict[str, float], form: str = "{:.2f}", scale: float = 1.0) -> str:
    """Return the median, with the least and the most."""
    median, least, most = (form.format(of[name] * scale) for name in ("median", "least", "most"))
    return f"{median} ({least}-{most})"


def chief(kinds: dict[str, Any]) -> Any:
    """Return what was found for many viewers, or for few where that is all."""
    return kinds.get("many") or kinds["few"]


def at_most(value: float, bar: float, form: str) -> str:
    """Return a bar, and whether it is kept."""
    return f"at most {form.format(bar)}: {'kept' if value <= bar else '**missed**'}"


def at_least(value: float, bar: float, form: str) -> str:
    """Return a bar, and whether it is kept."""
    return f"at least {form.format(bar)}: {'kept' if value >= bar else '**missed**'}"

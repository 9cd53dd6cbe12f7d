"""Parses the variables about metrics: the labels of every series, and what of the table of measures is left out.

Like all parsers they return a value, or raise ValueError("what is wrong; what would be right").
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from cdn77_exporter.core.measures import CACHE, CDN, POP, Histograms, Measure, Measures, built_in
from cdn77_exporter.settings.measures_file import MeasuresFile
from cdn77_exporter.settings.toml_kinds import guess

#: What a Prometheus label may be called; those that begin with two underscores are its own.
LABEL_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
#: Labels with a meaning of their own in histograms and summaries.
_RESERVED = frozenset({"le", "quantile"})
_MOST_LABELS = 30  # receivers take so many in all
_MOST_LENGTH = 256  # of a value
#: The labels that can be left out.
LEFT_OUT = {label.name: label for label in (CDN, CACHE, POP)}
#: A series that only `check` writes, and its own label.
PROBE, PROBE_LABEL = "cdn77_exporter_check", "backfill_window"


@dataclass(frozen=True, slots=True)
class ExternalLabels:
    """Labels that every series has beside its own."""

    pairs: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return ",".join(f"{name}={text}" for name, text in self.pairs)


def external_labels(text: str) -> ExternalLabels:
    """Return labels with their values."""
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    faults: list[str] = []
    pairs: dict[str, str] = {}
    for number, part in enumerate(parts, 1):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        wrong = _fault_of(name, value, equals=bool(equals), known=pairs)
        if wrong:
            faults.append(f"label {number} {wrong}")
        else:
            pairs[name] = value
    if len(parts) > _MOST_LABELS:
        faults.append(f"{len(parts)} labels are more than receivers take ({_MOST_LABELS})")
    if faults:
        raise ValueError(f"is wrong: {', '.join(faults)}; labels with values, such as `env=prod,account=x`")
    return ExternalLabels(tuple(sorted(pairs.items())))


def _fault_of(name: str, value: str, *, equals: bool, known: Collection[str]) -> str:
    """Return what is wrong with a label, if anything is."""
    faults = (
        (not equals, "has no `=`"),
        (
            not LABEL_NAME.fullmatch(name),
            "has a name that is none (letters, digits and `_`, no digit first, not two `_` first)",
        ),
        (name in _RESERVED, f"is called `{name}`, which histograms and summaries have themselves"),
        (name in known, f"is called `{name}`, as one before it is"),
        (not value, f"(`{name}`) has no value"),
        (
            len(value) > _MOST_LENGTH or not value.isprintable(),
            f"(`{name}`) has a value that is no plain text of at most {_MOST_LENGTH} characters",
        ),
    )
    return next((words for is_so, words in faults if is_so), "")


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def metric_names(text: str) -> tuple[str, ...]:
    """Return names of built-in metrics, or of families of them."""
    names = _names(text)
    rows = [row for kind in Histograms for row in built_in(kind).rows]
    known = [*dict.fromkeys([*(row.name for row in rows), *(row.family.name for row in rows)])]
    unknown = [f"`{name[:80]}` ({guess(name, known).rstrip('.')})" for name in names if name not in known]
    if unknown:
        raise ValueError(f"names what is no metric: {', '.join(unknown)}; names from docs/metrics.md")
    return names


def labels_to_leave_out(text: str) -> tuple[str, ...]:
    """Return labels that series can do without."""
    names = _names(text)
    unknown = [f"`{name[:80]}`" for name in names if name not in LEFT_OUT]
    if unknown:
        raise ValueError(f"names {', '.join(unknown)}, which cannot be left out; some of {', '.join(LEFT_OUT)}")
    return names


def histograms(text: str) -> Histograms:
    """Return how distributions of times are sent."""
    try:
        return Histograms(text.strip().lower())
    except ValueError:
        raise ValueError(f"is none of {', '.join(Histograms)}; one of these") from None


def measures_in_force(
    kind: Histograms,
    metrics_off: Iterable[str],
    labels_off: Iterable[str],
    own: MeasuresFile | None,
    returns: Iterable[Measure] = (),
) -> Measures:
    """Return the table of what is counted and sent: the built-in metrics that are not off, and those of one's own.

    `returns`: the rows of the times after which viewers return, which depend on other settings, too.
    """
    kept = built_in(kind).without(metrics_off, [LEFT_OUT[name] for name in labels_off])
    return Measures((*kept.rows, *returns, *(own.rows if own else ())))


def faults_between(external: ExternalLabels, measures: Measures) -> Iterator[str]:
    """Find faults of what is right by itself: a label that some metric has already, or nothing that is left to send."""
    if not measures.rows:
        yield "METRICS_OFF leaves no metric that could be sent; leave out fewer."
    for name, _ in external.pairs:
        own = [row.name for row in measures.rows if name in row.labels]
        own += [PROBE] if name == PROBE_LABEL else []
        if own:
            more = f" and {len(own) - 1} more" if len(own) > 1 else ""
            yield (
                f"EXTERNAL_LABELS has the label `{name}`, which {own[0]}{more} has of its own; choose another name, "
                f"such as `exporter_{name}`."
            )

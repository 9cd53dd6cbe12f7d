"""What can be set about the rules, each with its default: thresholds, who is asked, and where the runbook is."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
#: The page with the runbook, from the base of the documentation's site.
RUNBOOK_PAGE = "operations/"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. A text is put into the rules as it is, a number in as few digits as tell it."""

    name: str
    default: str | float
    help: str

    def read(self, text: str) -> str | float:
        """Return a value from the command line; raises ValueError when a number is wanted and it is none."""
        return text if isinstance(self.default, str) else float(text)


def _runbook() -> str:
    """Return the address of the runbook, from the address of the documentation in pyproject.toml."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return str(project["urls"]["Documentation"]).rstrip("/") + "/" + RUNBOOK_PAGE


SETTINGS = (
    Setting("runbookUrl", _runbook(), "Address of the runbook, up to the `#`; each alert links to its entry there."),
    Setting("exporterSelector", 'job="cdn77-exporter"', "Which targets are exporters."),
    Setting("problemFor", "1m", "How long a problem lasts before it is an alert."),
    Setting(
        "criticalProblems",
        "start|bucket|reading|receiver|delivery|state|state_file|lease|clock",
        "Problems with which numbers are missing now; the others are warnings.",
    ),
    Setting("downFor", "2m", "How long an exporter is away before it is an alert."),
    Setting("behindSeconds", 300, "From when on the numbers are behind."),
    Setting("farBehindSeconds", 1800, "From when on they are far behind."),
    Setting("pollSeconds", 300, "For how long the bucket cannot be listed."),
    Setting("pushSeconds", 300, "For how long the receiver accepts nothing."),
    Setting("restarts", 3, "How many restarts in half an hour are usual."),
    Setting("deliveredRatio", 0.9, "Which part of the requests that are counted is in Prometheus at least."),
    Setting("lateRatio", 0.02, "Which part of the events may be late."),
    Setting("rejectsRatio", 0.005, "Which part of the log lines may be rejected."),
    Setting("ignoredFieldsRatio", 0.1, "In which part of the requests a field may be malformed."),
    Setting("clockSkewSeconds", 60, "How far the exporter's clock may be off the bucket's."),
    Setting("geoipDays", 60, "How old the GeoIP database may be."),
    Setting("minRequests", 1, "Requests a second below which a stream or a CDN is too small to be judged."),
    Setting("minViewers", 20, "Viewers below which a stream is too small to be judged."),
    Setting("serverErrorRatio", 0.05, "Which part of a stream's answers may be 5xx for five minutes."),
    Setting("hitRatioDrop", 0.8, "Which part of the usual hit ratio is too little."),
    Setting("viewersDrop", 0.5, "Which part of the most viewers in three hours is too little."),
    Setting("trafficDrop", 0.3, "Which part of the usual requests is too little."),
    Setting("errorBudget", 0.005, "Which part of a stream's answers may be 5xx in 30 days."),
    Setting("deliveryBudget", 0.005, "Which part of 30 days an exporter may deliver nothing, or late."),
)

Config = dict[str, str | float]


def defaults() -> Config:
    """Return the default of every setting."""
    return {setting.name: setting.default for setting in SETTINGS}


def filled(text: str, config: Config) -> str:
    """Put the settings into a text that names them as `%(name)s`."""
    return text % {name: value if isinstance(value, str) else f"{value:.15g}" for name, value in config.items()}

"""What can be set about the rules, each with its default: thresholds, who is asked, and where the runbook is."""

from __future__ import annotations

import os
from dataclasses import dataclass

from cdn77_exporter.telemetry.conditions import CONDITIONS, Severity

#: Where the runbook is as long as nobody says it: an address that is reserved for examples and leads nowhere. One that
#: is written down here would be wrong in every copy of the project.
NOWHERE = "https://docs.example.com/cdn77-exporter/operations/"
#: The address of the repository that builds, as for the links of the package (hatch_build.py), and the page in it.
REPOSITORY = "CDN77_EXPORTER_REPOSITORY"
_PAGE = "/blob/main/docs/operations.md"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. A text is put into the rules as it is, a number in as few digits as tell it."""

    name: str
    default: str | float
    help: str

    def read(self, text: str) -> str | float:
        """Return a value from the command line; raises ValueError when a number is wanted and it is none."""
        return text if isinstance(self.default, str) else float(text)


SETTINGS = (
    Setting("runbookUrl", NOWHERE, "Address of the runbook, up to the `#`; each alert links to its entry there."),
    Setting("exporterSelector", 'job="cdn77-exporter"', "Which targets are exporters."),
    Setting("problemFor", "1m", "How long a problem lasts before it is an alert."),
    Setting(
        "criticalProblems",
        "|".join(name for name, row in CONDITIONS.items() if row.severity is Severity.RED),
        "Problems with which numbers are missing now; the others are warnings.",
    ),
    Setting(
        "waitingProblems",
        "|".join(name for name, row in CONDITIONS.items() if row.severity is Severity.WAITING),
        "What is no problem but a process that does not count yet.",
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


def of_this_repository() -> Config:
    """Return the defaults, with the runbook of the repository that builds, if it is known."""
    repository = os.environ.get(REPOSITORY, "").rstrip("/")
    return defaults() | ({"runbookUrl": repository + _PAGE} if repository else {})


def filled(text: str, config: Config) -> str:
    """Put the settings into a text that names them as `%(name)s`."""
    return text % {name: value if isinstance(value, str) else f"{value:.15g}" for name, value in config.items()}

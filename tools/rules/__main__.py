"""Writes the rules of Prometheus from the table in this folder.

Without options everything that the repository holds: the plain files, the chart's and the mixin. With `--out FOLDER`
the plain files alone, with settings of your own: `--set runbookUrl=https://wiki.example.com --set behindSeconds=600`.
Links to the runbook lead to the repository that CDN77_EXPORTER_REPOSITORY names unless `runbookUrl` is set. `--check`
writes nothing and names what is stale.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.rules.config import SETTINGS, Config, defaults, of_this_repository
from tools.rules.table import ALERTS, RECORDS
from tools.rules.text import as_it_is, config_of_mixin, mixin, plain, with_settings

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
_CHART = "helm/cdn77-exporter/files"
_MADE = "Made by `python -m tools.rules` from tools/rules/table.py; change it there."
_RECORDS = (
    f"{_MADE} What dashboards over long spans and the alerts ask again and again. A recorded value lies 90 s behind "
    f"its "
    "timestamp (`offset 90s`): the newest minute and a half is still on its way from the CDN, and a rule that looked "
    "at it would record a dip that never was. Who queries these needs no offset any more."
)
_ALERTS = (
    f"{_MADE} `critical`: numbers are wrong or missing now, or soon will be permanently. `warning`: somebody should "
    f"look "
    "today. Alerts on exporters are by instance: one that is fine hides no other. Those on the traffic ask recorded "
    "series, which lie 90 s behind. Thresholds, the selector of the exporters and the address of the runbook are "
    "settings: `python -m tools.rules --help`."
)


def plain_files(config: Config) -> dict[str, str]:
    """Return the two files of rules with settings filled in, by name."""
    fill = with_settings(config)
    return {
        "recording.rules.yml": plain(RECORDS, _RECORDS, fill),
        "alerts.rules.yml": plain(ALERTS, _ALERTS, fill),
    }


def files() -> dict[str, str]:
    """Return everything that the repository holds, by its path in `deploy`."""
    found = {f"prometheus/{name}": text for name, text in plain_files(defaults()).items()}
    found |= {
        f"{_CHART}/recording.rules.yml": plain(RECORDS, _MADE, as_it_is),
        f"{_CHART}/alerts.rules.yml": plain(ALERTS, _MADE, as_it_is),
        f"{_CHART}/rules.defaults.yml": _defaults(),
        "mixin/config.libsonnet": config_of_mixin(_MADE),
        "mixin/rules.libsonnet": mixin(RECORDS, "prometheusRules", _MADE),
        "mixin/alerts.libsonnet": mixin(ALERTS, "prometheusAlerts", _MADE),
    }
    return found


def _defaults() -> str:
    lines = [f"# {_MADE} `prometheusRule.config` of the values goes before it."]
    for setting in SETTINGS:
        value = f"'{setting.default}'" if isinstance(setting.default, str) else f"{setting.default:.15g}"
        lines += [f"# {setting.help}", f"{setting.name}: {value}"]
    return "\n".join(lines) + "\n"


def stale(folder: Path = DEPLOY) -> list[str]:
    """Return the files that differ from what the table gives."""
    return [
        path
        for path, text in files().items()
        if not (folder / path).is_file() or (folder / path).read_text("utf-8") != text
    ]


def settings(given: Sequence[str]) -> Config:
    """Return the settings with those of the command line; raises ValueError for one that is none."""
    known = {setting.name: setting for setting in SETTINGS}
    config = of_this_repository()
    for pair in given:
        name, is_given, text = pair.partition("=")
        if name not in known or not is_given:
            raise ValueError(f"{pair}: not NAME=VALUE of {', '.join(known)}")
        config[name] = known[name].read(text)
    return config


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, "utf-8")


def main(words: Sequence[str] | None = None) -> int:
    """Write the files, or with `--check` name the stale ones; the exit code."""
    names = "\n".join(f"  {setting.name}={setting.default}\n      {setting.help}" for setting in SETTINGS)
    parser = argparse.ArgumentParser(
        prog="python -m tools.rules",
        description=__doc__,
        epilog=f"settings, with their defaults:\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a file is stale")
    parser.add_argument("--out", type=Path, help="a folder for the plain files with settings of your own")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting; needs --out")
    options = parser.parse_args(words)
    if options.set and options.out is None:
        parser.error("--set needs --out: the files of the repository have the defaults")
    if options.out is not None:
        try:
            _write(options.out, plain_files(settings(options.set)))
        except ValueError as error:
            parser.error(str(error))
    elif options.check:
        for path in (found := stale()):
            print(f"deploy/{path} is stale; run `python -m tools.rules`", file=sys.stderr)
        return 1 if found else 0
    else:
        _write(DEPLOY, files())
    return 0


if __name__ == "__main__":
    sys.exit(main())

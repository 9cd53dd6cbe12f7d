"""The command line's commands, each imported only when it is called."""

from __future__ import annotations

#: Command -> its module in `commands`, and what it does in a line. A module is imported only for its own command.
COMMANDS: dict[str, tuple[str, str]] = {
    "inspect": ("inspect", "decode local log files and say what is in them; needs no network and no configuration"),
    "check": ("check", "contact everything with the configuration at hand, and say what to do"),
    "reconcile": ("reconcile", "count the files of a span again and compare with what the receiver holds"),
    "backfill": ("backfill", "turn old log files into OpenMetrics text, of which promtool makes blocks"),
    "quarantine": ("quarantine", "list the files that were set aside, and release them to be tried again"),
    "completion": ("completion", "print a script that completes the command line in bash, zsh or fish"),
    "demo": ("demo", "run the service against a local S3 server and receiver, and compare what went in and came out"),
    "healthcheck": ("healthcheck", "ask a running service whether it is alive; for a container's health check"),
}

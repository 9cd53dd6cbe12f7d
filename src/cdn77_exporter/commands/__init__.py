"""The command line's commands, each imported only when it is called."""

from __future__ import annotations

#: Command -> its module in `commands`, and what it does. A module is imported only for its own command.
COMMANDS: dict[str, tuple[str, str]] = {
    "inspect": (
        "inspect.command",
        "decode local log files and say what is in them, without a network or configuration",
    ),
    "check": ("check.command", "contact everything with the configuration at hand, and say what to do"),
    "reconcile": ("reconcile.command", "count the files of a span again and compare with what the receiver holds"),
    "backfill": ("backfill.command", "turn old log files into OpenMetrics text, of which promtool makes blocks"),
    "quarantine": ("quarantine.command", "list the files that were set aside, and release them to be tried again"),
    "demo": ("demo", "run the service against a local S3 server and receiver, and compare what went in and came out"),
    "healthcheck": ("healthcheck", "ask a running service whether it is alive; for a container's health check"),
}

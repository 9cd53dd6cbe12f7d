"""`cdn77-exporter demo`: shows the whole service at work on this machine, and proves its numbers."""

from __future__ import annotations

import argparse
import os

from cdn77_exporter.commands.output import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    environ = os.environ
    parser.description = (
        "Starts an S3 server, a receiver (Prometheus when there is one) and the daemon, writes traffic into the bucket "
        "and compares what was written with what the receiver holds. The exit code is 0 when they are equal."
    )
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=environ.get("DEMO_SECONDS") or "60",
        help="how long traffic is written (default: DEMO_SECONDS, else 60; with --traffic-only 0 means without end)",
    )
    parser.add_argument(
        "--rate", type=_seconds, default=150.0, metavar="LINES", help="log lines a second (default: 150)"
    )
    parser.add_argument("--keep", action="store_true", help="leave everything running at the end, until Ctrl-C")
    only = parser.add_argument_group(
        "only the traffic", "The keys are taken from S3_ACCESS_KEY and S3_SECRET_KEY, the region from S3_REGION."
    )
    only.add_argument("--traffic-only", action="store_true", help="write traffic into a bucket and do nothing else")
    only.add_argument("--endpoint", default=environ.get("S3_ENDPOINT"), help="default: S3_ENDPOINT")
    only.add_argument("--bucket", default=environ.get("S3_BUCKET"), help="default: S3_BUCKET")
    only.add_argument("--prefix", default=environ.get("S3_PREFIX"), help="default: S3_PREFIX, else none")


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 on")
    return number


def run(args: argparse.Namespace) -> int:
    """Run the demo or the traffic, and return the exit code."""
    from cdn77_exporter.demo.run import Options, Target, run_demo, run_traffic  # noqa: PLC0415 - --help is quick

    options = Options(args.seconds, args.keep, args.rate)
    if args.traffic_only:
        if not args.endpoint or not args.bucket:
            say("--traffic-only needs --endpoint and --bucket (or S3_ENDPOINT and S3_BUCKET)")
            return 2
        target = Target(
            args.endpoint,
            args.bucket,
            args.prefix or "",
            os.environ.get("S3_ACCESS_KEY", "demo"),
            os.environ.get("S3_SECRET_KEY", "demo-secret"),
            os.environ.get("S3_REGION"),
        )
        return run_traffic(options, target)
    if not args.seconds:
        say("--seconds 0 (without end) is for --traffic-only")
        return 2
    return run_demo(options)

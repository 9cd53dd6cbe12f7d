"""Runs all checks of a configuration side by side, each contact with a bound on its time."""

from __future__ import annotations

import asyncio

from cdn77_exporter.clients import open_bucket, open_receiver
from cdn77_exporter.commands.check.bucket import check_bucket
from cdn77_exporter.commands.check.findings import Finding, Findings
from cdn77_exporter.commands.check.local import STATE, check_bucket_state, check_geoip, check_state_file
from cdn77_exporter.commands.check.receiver import check_receiver
from cdn77_exporter.core.errors import Misconfigured
from cdn77_exporter.settings import VARIABLES, File, Off, Settings


async def check_all(settings: Settings, seconds: float) -> list[Finding]:
    """Run every check; return the findings in the order of the table."""
    parts = await asyncio.gather(
        asyncio.to_thread(_variables, settings, seconds),
        _bucket(settings, seconds),
        _receiver(settings, seconds),
        asyncio.to_thread(_geoip, settings, seconds),
        _state(settings, seconds),
    )
    return [finding for part in parts for finding in part.all]


def _variables(settings: Settings, seconds: float) -> Findings:
    findings = Findings(seconds)
    findings.ok("variables", f"all {len(VARIABLES)} valid")
    for name, doubt in settings.doubts:
        findings.warn(name, doubt, "correct it, or leave it when it is meant so")
    return findings


async def _bucket(settings: Settings, seconds: float) -> Findings:
    findings = Findings(seconds)
    try:
        async with open_bucket(settings, seconds=seconds) as bucket:
            await check_bucket(bucket, settings, findings)
    except Misconfigured as error:
        findings.fail("bucket", str(error), error.remedy)
    return findings


async def _receiver(settings: Settings, seconds: float) -> Findings:
    findings = Findings(seconds)
    async with open_receiver(settings, seconds=seconds) as writer:
        await check_receiver(writer, settings, findings)
    return findings


def _geoip(settings: Settings, seconds: float) -> Findings:
    findings = Findings(seconds)
    check_geoip(settings, findings)
    return findings


async def _state(settings: Settings, seconds: float) -> Findings:
    findings = Findings(seconds)
    place = settings.state_path
    if isinstance(place, Off):
        findings.warn(STATE, "off: a crash can count the end of a file twice", "set STATE_PATH to a file that is kept")
        return findings
    if isinstance(place, File):
        await asyncio.to_thread(check_state_file, settings, place.path, findings)
        return findings
    try:
        async with open_bucket(settings, place.bucket, seconds=seconds) as bucket:
            await check_bucket_state(bucket, place, findings)
    except Misconfigured as error:
        findings.fail(STATE, str(error), error.remedy)
    return findings

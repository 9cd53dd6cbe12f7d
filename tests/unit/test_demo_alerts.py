"""The webhook of the demo: what it says of an alert, and what it refuses."""

from __future__ import annotations

import aiohttp
import orjson
import pytest

from cdn77_exporter.demo.alerts import Alert, AlertReceiver, read

NOTIFICATION = {
    "version": "4",
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "Cdn77Gaps", "severity": "warning", "job": "cdn77-exporter", "instance": "a:9177"},
            "annotations": {"summary": "Log files are missing.", "runbook_url": "https://docs.example.com/#cdn77gaps"},
        },
        {"status": "resolved", "labels": {"alertname": "Cdn77Behind"}},
    ],
}


def test_an_alert_is_one_line() -> None:
    """It has the state, the name, which one it is about, the words and the runbook, and no line break of theirs."""
    first, second = read(orjson.dumps(NOTIFICATION))
    assert first.line == (
        "FIRING warning Cdn77Gaps (instance=a:9177) Log files are missing. https://docs.example.com/#cdn77gaps"
    )
    assert second.line == "RESOLVED Cdn77Behind"
    assert "\n" not in Alert("firing", {"alertname": "a\nb\x1b[2J"}, {}).line


@pytest.mark.parametrize("body", [b"", b"[]", b'{"alerts":[{}]}', b'{"alerts":3}', b'{"alerts":["x"]}'])
def test_what_is_no_notification_is_refused(body: bytes) -> None:
    """It raises ValueError."""
    with pytest.raises(ValueError, match=r"\w"):
        list(read(body))


async def test_alerts_are_told_in_order() -> None:
    """Each alert of a notification is told once, and a body that is none is answered with 400 and tells nothing."""
    told: list[Alert] = []
    async with AlertReceiver(told.append) as receiver, aiohttp.ClientSession() as session:
        async with session.post(receiver.url, json=NOTIFICATION) as answer:
            assert answer.status == 200
        async with session.post(receiver.url, data=b"{") as answer:
            assert answer.status == 400
        async with session.get(f"{receiver.url}healthz") as answer:
            assert answer.status == 200
    assert [alert.labels["alertname"] for alert in told] == ["Cdn77Gaps", "Cdn77Behind"]

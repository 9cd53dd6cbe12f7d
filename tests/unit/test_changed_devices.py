"""Rules for device types that change while a state lives on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.fake_bucket import FakeBucket
from tests.support.samples import Received, parsed
from tests.support.service_run import THROUGH_SECONDS, Run, simulate, state_file

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0"


def last_values(run: Run, metric: str) -> dict[str, float]:
    """The last value of each device type's series; of a metric without that label, under ""."""
    received = Received()
    received.take((body, sum(len(one.samples) for one in parsed(body).timeseries)) for body in run.receiver.bodies)
    return {
        dict(name).get("device_type", ""): samples[-1][1]
        for name, samples in received.samples.items()
        if dict(name)["__name__"] == metric
    }


def test_viewers_get_their_new_type_with_their_next_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One viewer stays one; the type it had counts it until the window has passed; the change is told once."""
    rules = tmp_path / "devices.toml"

    def run(bucket: FakeBucket | None = None, **environ: str) -> Run:
        return Run(monkeypatch, bucket, **state_file(tmp_path), **environ)  # type: ignore[arg-type]

    async def main() -> None:
        first = run()
        await first.put(clientRequestUserAgent=BROWSER)
        async with first.running(THROUGH_SECONDS):
            assert first.said("device_rules_changed") == []
        assert last_values(first, "cdn77_active_viewers_by_device") == {"web": 1}

        rules.write_text('[[rule]]\nname = "desktop"\nwords = ["firefox"]\n')
        second = run(first.bucket, DEVICE_RULES_FILE=str(rules))
        await second.put(2, clientRequestUserAgent=BROWSER)
        async with second.running(THROUGH_SECONDS):
            (told,) = second.said("device_rules_changed")
            assert (told["path"], told["types"]) == (str(rules), 2)
        assert last_values(second, "cdn77_active_viewers_by_device") == {"web": 1, "desktop": 1}
        assert last_values(second, "cdn77_active_viewers") == {"": 1}
        assert last_values(second, "cdn77_viewers_total") == {"": 1}
        assert last_values(second, "cdn77_viewers_by_device_total") == {"web": 1, "desktop": 1}

        third = run(first.bucket, DEVICE_RULES_FILE=str(rules))
        async with third.running(THROUGH_SECONDS):
            assert third.said("device_rules_changed") == []
        fourth = run(first.bucket)
        async with fourth.running(THROUGH_SECONDS):
            (told,) = fourth.said("device_rules_changed")
            assert told["path"] == "built-in"

    simulate(main())

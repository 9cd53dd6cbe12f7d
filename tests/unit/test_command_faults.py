"""Commands that cannot reach a server: they say what to do, not what the service would do."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cdn77_exporter.__main__ import main
from cdn77_exporter.commands.quarantine import set_aside
from cdn77_exporter.commands.reconcile import command as reconcile
from cdn77_exporter.core.errors import Misconfigured, Transient
from tests.support.service_run import ENVIRON

SPAN = ("reconcile", "--from", "2026-01-10T14:00:00Z", "--to", "2026-01-10T15:00:00Z", "--files", ".")


@pytest.mark.parametrize("words", [("quarantine", "list"), SPAN])
@pytest.mark.parametrize(
    "error", [Transient("no answer"), Misconfigured("no right", "grant the key the right to list")]
)
def test_a_server_that_cannot_be_reached_is_told_with_a_remedy(
    words: Sequence[str], error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command tries once: that it is tried again would be true of the service alone."""

    async def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(set_aside, "list_kept", fail)
    monkeypatch.setattr(reconcile, "_reconcile", fail)
    for name, text in ENVIRON.items():
        monkeypatch.setenv(name, text)
    assert main(words) == 1
    told = capsys.readouterr().err
    assert str(error) in told
    assert "it is tried again" not in told
    if isinstance(error, Misconfigured):
        assert error.remedy in told

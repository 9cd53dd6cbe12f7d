"""Tells which shards lag or are silent: messages when that changes, and a problem as long as it lasts."""

from __future__ import annotations

from dataclasses import dataclass, field

from cdn77_exporter.core.phrases import named, span
from cdn77_exporter.core.watermark import ShardState, Watermark
from cdn77_exporter.flow.in_flight import InFlight
from cdn77_exporter.flow.ports import Common

#: A shard that has been silent for longer is taken for one that has ended.
ENDED_SECONDS = 3600.0
_EVERY_SECONDS = 5.0


def shard_states(watermark: Watermark, in_flight: InFlight) -> dict[str, ShardState]:
    """Return the state of every shard that is known."""
    return watermark.states(in_flight.expected, in_flight.outstanding.keys())


@dataclass(slots=True)
class ShardReports:
    """Compares the shards' states with what was told last.

    A shard is told to lag when it has for as long as a silent one is waited for, and goes on to: one that ends in a
    backlog does not. It is told to be silent when it has delivered nothing for `wait_seconds` while another one has.
    When all are silent it is the traffic that is.
    """

    common: Common
    in_flight: InFlight
    watermark: Watermark
    wait_seconds: float
    _told: dict[str, ShardState] = field(default_factory=dict, init=False)  # those that are not current
    _since: dict[str, float] = field(default_factory=dict, init=False)  # when those that lag were found to
    _at: float = field(default=float("-inf"), init=False)

    def tell(self) -> None:
        """Report what has changed, if it is time to look again."""
        now = self.common.clock.monotonic()
        if now - self._at < _EVERY_SECONDS:
            return
        self._at = now
        all_states = shard_states(self.watermark, self.in_flight)
        states = self._worth_telling(all_states, now)
        for name, state in states.items():
            if self._told.get(name) is not state:
                self._tell_of(name, state, now)
        for name in self._told.keys() - states.keys():
            if all_states.get(name) is ShardState.CURRENT:
                self.common.report("shard_recovered", shard=name, newest=self._newest(name))
        self._told = states
        self._set_lagging(flows=ShardState.CURRENT in all_states.values())
        self._set_silent(now)

    def _worth_telling(self, states: dict[str, ShardState], now: float) -> dict[str, ShardState]:
        shards, flows = self.watermark.shards, ShardState.CURRENT in states.values()

        lagging = {name for name, state in states.items() if state is ShardState.LAGGING}
        self._since = {name: self._since.get(name, now) for name in lagging}
        found: dict[str, ShardState] = {}
        for name, state in states.items():
            if name in lagging and self._lags_on(name, now):
                found[name] = state
            elif state is not ShardState.CURRENT and name in shards:
                silent = now - shards[name].seen
                if silent < self.wait_seconds and name in self._told:
                    found[name] = self._told[name]  # it lags, and pauses
                elif state is ShardState.SILENT and flows and self.wait_seconds <= silent < ENDED_SECONDS:
                    found[name] = state
        return found

    def _lags_on(self, name: str, now: float) -> bool:
        since, shard = self._since[name], self.watermark.shards.get(name)
        goes_on = name in self.in_flight.outstanding or (shard is not None and shard.seen > since)
        return goes_on and now - since >= self.in_flight.patience

    def _tell_of(self, name: str, state: ShardState, now: float) -> None:
        newest = self._newest(name)
        if state is ShardState.LAGGING:
            behind = self.watermark.value_ms / 1000 - newest if newest is not None else None
            waiting = self.in_flight.outstanding.get(name, 0)
            self.common.report("shard_lagging", shard=name, newest=newest, behind_seconds=behind, files=waiting)
        else:
            silent = now - self.watermark.shards[name].seen
            self.common.report("shard_silent", shard=name, newest=newest, silent_seconds=round(silent, 1))

    def _newest(self, name: str) -> float | None:
        return self.watermark.newest_ms(name) / 1000 or None

    def _set_lagging(self, *, flows: bool) -> None:
        """Tell which shards lag now; `flows`: whether any shard is current."""
        names = self._names(ShardState.LAGGING)
        if not names:
            self.common.problems.solved("shard_lagging")
            return
        behind = "the others" if flows else "the time"
        seconds = self._most_behind(names)
        words = f"{_shards(names)} {span(seconds)} behind {behind}" if seconds else f"{_shards(names)} behind {behind}"
        self.common.problems.found("shard_lagging", words)

    def _set_silent(self, now: float) -> None:
        names = self._names(ShardState.SILENT)
        if not names:
            self.common.problems.solved("shard_silent")
            return
        silent = max(now - self.watermark.shards[name].seen for name in names)
        self.common.problems.found("shard_silent", f"{_shards(names)} silent for {span(silent)}")

    def _names(self, state: ShardState) -> list[str]:
        return sorted(name for name, found in self._told.items() if found is state)

    def _most_behind(self, names: list[str]) -> float:
        """Return how far the last of some shards is behind, in seconds; 0 when nothing of them is counted."""
        newest = [self.watermark.newest_ms(name) for name in names if self.watermark.newest_ms(name)]
        return max(0.0, (self.watermark.value_ms - min(newest)) / 1000) if newest else 0.0


def _shards(names: list[str]) -> str:
    return f"{'shards' if len(names) > 1 else 'shard'} {named(names)}"

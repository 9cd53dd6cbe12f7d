"""What was asked for lately is not asked again, and no more than that is remembered."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.core.recent import Recent


@given(st.lists(st.integers(0, 12)), st.integers(1, 10))
def test_answers_are_right_and_bounded(keys: list[int], most: int) -> None:
    """Every answer is the one that would be given now; at most so many are kept, those of the last half at least."""
    asked: list[int] = []

    def ask(key: int) -> str:
        asked.append(key)
        return str(key)

    recent = Recent(ask, most)
    for place, key in enumerate(keys):
        before = len(asked)
        assert recent(key) == str(key)
        assert len(recent) <= max(2, most)
        if key in keys[max(0, place - most // 2) : place]:
            assert len(asked) == before


def test_what_is_forgotten_is_asked_again() -> None:
    """As after a change of what the answers come from."""
    answers = {"a": "1"}
    recent = Recent(answers.get, 10)
    assert recent("a") == "1"
    answers["a"] = "2"
    assert recent("a") == "1"
    recent.clear()
    assert recent("a") == "2"
    assert recent("unknown") is None

"""How much is tried: examples of hypothesis and parameters, fewer of both in `make test-fast`.

`tests/conftest.py` registers the profiles of hypothesis.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings

_USUAL = 100  # examples that the profile `full` gives to a test that asks for no number


def examples(count: int) -> settings:
    """Return settings that try `count` examples in the profile `full`, and a part of them in `fast`."""
    return settings(max_examples=max(1, count * settings().max_examples // _USUAL))


def fuzz_examples(count: int) -> settings:
    """Return the same; the variable FUZZ_EXAMPLES, if it is set, decides for every profile."""
    given = os.environ.get("FUZZ_EXAMPLES")
    return settings(max_examples=int(given)) if given else examples(count)


def sample(values: Iterable[Any], fast: int) -> list[Any]:
    """Return parameters for a test; those after the first `fast` are marked `slow`."""
    return [
        value if place < fast else pytest.param(value, marks=pytest.mark.slow) for place, value in enumerate(values)
    ]

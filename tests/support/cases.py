"""Many small cases in one test: all of them run, and each that fails is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Cases:
    """Collect the failures of named cases, and raise them together at the end of the `with` block.

    with Cases() as cases:
        for name, line in LINES:
            with cases.case(name):
                assert ...
    """

    def __init__(self) -> None:
        self._failures: list[Exception] = []
        self._count = 0

    def __enter__(self) -> Cases:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            return
        assert self._count, "no case was run"
        if self._failures:
            raise ExceptionGroup(f"{len(self._failures)} of {self._count} cases failed", self._failures)

    @contextmanager
    def case(self, name: object) -> Iterator[None]:
        """Run the block as the case `name`: what it raises is kept under that name."""
        self._count += 1
        try:
            yield
        except Exception as error:
            error.add_note(f"case: {name}")
            self._failures.append(error)

"""How the tests are shared out between processes."""

from __future__ import annotations

import pytest

#: Tests that start servers and watch real time: on two cores they must not compete with each other, so that each
#: folder's run one after the other in one process, beside the quick ones in the other.
_ONE_BY_ONE = ("tests/e2e/", "tests/soak/", "tests/browser/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the slow ones one group (`--dist loadgroup`), and begin with them, since they take longest."""
    for item in items:
        if item.nodeid.startswith(_ONE_BY_ONE):
            item.add_marker(pytest.mark.xdist_group("real time"))
    items.sort(key=lambda item: not item.nodeid.startswith(_ONE_BY_ONE))

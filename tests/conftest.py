"""How the tests are shared out between processes (`--dist loadgroup`)."""

from __future__ import annotations

import pytest

#: Tests that start servers and watch real time. They mostly wait, so files run beside each other, but one file's tests
#: run one after the other in one process, where they share what they have started.
_REAL_TIME = ("tests/soak/", "tests/e2e/", "tests/browser/", "tests/deploy/", "tests/docs/", "tests/contract/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each slow file a group, and begin with these, since they take longest; Ceph is started only once."""
    for item in items:
        if item.get_closest_marker("ceph") or "ceph" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("ceph"))
        elif item.nodeid.startswith(_REAL_TIME):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
    items.sort(key=lambda item: not item.nodeid.startswith(_REAL_TIME))

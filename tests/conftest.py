"""How the tests are shared out between processes, how long hypothesis looks, and where many commits are quick."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# `make test-fast` asks for the short one by `--hypothesis-profile=fast`; see `tests/support/examples.py`.
settings.register_profile("full", max_examples=100, deadline=None)
settings.register_profile("fast", max_examples=10, deadline=None)
settings.load_profile("full")

#: Tests that start servers and watch real time. They mostly wait, so files run beside each other, but one file's tests
#: run one after the other in one process, where they share what they have started.
_REAL_TIME = ("tests/soak/", "tests/e2e/", "tests/browser/", "tests/deploy/", "tests/docs/", "tests/contract/")
#: These start Ceph, which is to be started only once.
_CEPH = ("tests/contract/test_bucket.py", "tests/contract/test_policy.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slow ones, since they take longest."""
    items.sort(key=lambda item: not item.nodeid.startswith(_REAL_TIME))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file of the slow tests is one piece of work; of the others each test is."""
    from xdist.scheduler.loadscope import LoadScopeScheduling  # the plug-in may be off

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            if nodeid.startswith(_CEPH):
                return "ceph"
            return str(nodeid.partition("::")[0]) if nodeid.startswith(_REAL_TIME) else nodeid

    return ByFile(config, log)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for state files, in memory where that is possible: a run has hundreds of synced commits."""
    memory = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    yield path
    shutil.rmtree(path)

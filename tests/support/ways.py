"""The decoder's two ways: with the compiled scan and without; what is asserted of the one holds of the other."""

from __future__ import annotations

import os
import shlex
import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdn77_exporter.core import scan


def can_compile() -> bool:
    """Whether there is what the package's build needs to compile the scan."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    return bool(shutil.which(compiler)) and Path(sysconfig.get_path("include"), "Python.h").exists()


def need_compiled_scan() -> None:
    """Skip the test without the compiled scan; in CI that is a fault where it could have been built."""
    if scan.COMPILED:
        return
    if os.environ.get("CI", "").lower() in ("1", "true", "yes") and can_compile():
        pytest.fail("the compiled scan was not built although there is a compiler: make setup")
    pytest.skip("needs the compiled scan, which is built where there is a compiler: make setup")


@pytest.fixture(scope="module", params=["pure", "compiled"], autouse=True)
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs every test of the module that imports it in both ways."""
    if request.param == "compiled":
        need_compiled_scan()
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "pure":
            patch.setattr(scan, "COMPILED", False)
        yield request.param

"""The build's own step: compiles the decoder's fast path where there is a compiler, and does without where not.

`python hatch_build.py` compiles it beside the sources, as an editable installation does.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

FOLDER = Path("src/cdn77_exporter/core/scan")
SOURCE = "_scan.c"
BUILT = "_scan.abi3.so"
#: The stable interface of Python 3.11 is that of all later versions, too.
TAG = "cp311-abi3"
#: The same source gives the same bytes: they hold no paths and no times. Any processor of the platform can run them.
FLAGS = (
    *("-std=gnu11", "-O2", "-g0", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra"),
    *("-fstack-protector-strong", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"),
    *("-shared", "-s", "-Wl,-z,relro,-z,now,-z,noexecstack"),
)
#: Set to 1, it asks for the wheel of Python alone, which is the same for every platform.
PURE = "CDN77_EXPORTER_PURE"
#: The address of the repository that builds, for the links of the package. Without it there are none: an address that
#: is written down here would be wrong in every copy, and somebody else's where nobody holds it.
REPOSITORY = "CDN77_EXPORTER_REPOSITORY"
LINKS = {
    "Source": "",
    "Documentation": "/tree/main/docs",
    "Changelog": "/blob/main/CHANGELOG.md",
    "Issues": "/issues",
}


class Links(MetadataHookInterface):
    """Puts the addresses of the project into the package's metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the addresses under that of the repository, if it is known."""
        repository = os.environ.get(REPOSITORY, "").rstrip("/")
        metadata["urls"] = {name: repository + path for name, path in LINKS.items()} if repository else {}


class CompiledScan(BuildHookInterface[Any]):
    """Puts the compiled scan into the wheel or, for an editable installation, beside the sources."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; a wheel that goes without is one for every platform."""
        folder = Path(self.root, FOLDER)
        if version == "editable":
            self._tell(compile_scan(folder, folder))
            return
        self._made = tempfile.mkdtemp(prefix="compiled-scan-")
        why_not = compile_scan(folder, Path(self._made))
        self._tell(why_not)
        if not why_not:
            build_data["pure_python"] = False
            build_data["tag"] = f"{TAG}-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
            build_data["force_include"][str(Path(self._made, BUILT))] = f"cdn77_exporter/core/scan/{BUILT}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was compiled for the wheel."""
        if version != "editable":
            shutil.rmtree(self._made, ignore_errors=True)

    def _tell(self, why_not: str) -> None:
        if why_not:
            self.app.display_warning(f"Built without the compiled scan, so that decoding takes longer: {why_not}.")


def compile_scan(sources: Path, target: Path) -> str:
    """Compile it into a folder; why that cannot be done, if it cannot."""
    built = target / BUILT
    built.unlink(missing_ok=True)  # what an earlier source gave
    if os.environ.get(PURE) == "1":
        return f"{PURE} is 1"
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").exists():
        return f"the headers of Python are not in {headers}"
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    given = shlex.split(os.environ.get("CFLAGS", ""))
    # Named by its name alone, for the compiler writes down what it is given.
    command = [*compiler, *FLAGS, *given, f"-I{headers}", "-o", str(built), SOURCE]
    try:
        ended = subprocess.run(command, cwd=sources, capture_output=True, text=True, timeout=300, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"the compiler {compiler[0]} cannot be run ({error})"
    if ended.returncode:
        return f"{shlex.join(command)} failed with {ended.returncode}\n{ended.stderr}"
    return ""


if __name__ == "__main__":
    here = Path(__file__).parent.resolve() / FOLDER
    sys.exit(compile_scan(here, here) or 0)

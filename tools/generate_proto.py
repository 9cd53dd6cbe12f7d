"""Generates the Python modules of the schemas in proto/; with `--check` it only reports which modules are stale.

A schema is compiled under the path that its module has in the package, so that its name in protobuf's process-wide
register is as unlikely to collide as its package name.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCHEMAS = sorted((ROOT / "proto").glob("*.proto"))
FOLDER = Path("cdn77_exporter") / "core" / "encode"
OUTPUTS = tuple(FOLDER / f"{schema.stem}_pb2{suffix}" for schema in SCHEMAS for suffix in (".py", ".pyi"))


def generate(target: Path) -> None:
    """Write the generated files below `target`, as they lie below `src`."""
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"--proto_path={FOLDER}={ROOT / 'proto'}",
        f"--proto_path={files('grpc_tools') / '_proto'}",
        f"--python_out={target}",
        f"--pyi_out={target}",
        *(str(FOLDER / schema.name) for schema in SCHEMAS),
    ]
    subprocess.run(command, check=True, cwd=ROOT)  # noqa: S603


def stale(source: Path = ROOT / "src") -> list[str]:
    """Return the generated files below `source` that differ from what the schemas give now."""
    with tempfile.TemporaryDirectory() as name:
        generate(Path(name))
        return [
            path.as_posix()
            for path in OUTPUTS
            if not (source / path).is_file() or (source / path).read_bytes() != (Path(name) / path).read_bytes()
        ]


def main() -> int:
    """Run the command line; return exit code 1 when `--check` finds a stale file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 when a file is stale")
    if not parser.parse_args().check:
        generate(ROOT / "src")
        return 0
    found = stale()
    for path in found:
        print(f"src/{path} is stale: run tools/generate_proto.py", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

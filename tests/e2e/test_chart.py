"""The operator's chart: what it renders, and that services outlive its upgrade and removal."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import yaml

from polyglot_operator.cluster.kinds import CHILDREN, PRUNABLE, SERVICE, WATCHED
from tests.e2e import modes
from tests.e2e.cluster import Command, CommandError, eventually
from tests.e2e.modes import CHART
from tests.e2e.modes import OPERATOR_NAMESPACE as NAMESPACE
from tests.e2e.services import add_model, declare

Object = dict[str, Any]


def rendered(helm: Command, *options: str) -> list[Object]:
    text = helm("template", "polyglot-operator", str(CHART), "-n", NAMESPACE, *options)
    return [obj for obj in yaml.safe_load_all(text) if obj]


def kinds(objects: list[Object]) -> list[str]:
    return sorted(obj["kind"] for obj in objects)


def rules(objects: list[Object], kind: str) -> list[Object]:
    (role,) = (obj for obj in objects if obj["kind"] == kind)
    found: list[Object] = role["rules"]
    return found


def granted(found: list[Object]) -> dict[tuple[str, str], set[str]]:
    return {
        (group, resource): set(rule["verbs"])
        for rule in found
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def test_every_chart_is_free_of_complaints(helm: Command) -> None:
    for chart in sorted(CHART.parent.iterdir()):
        assert "0 chart(s) failed" in helm("lint", "--strict", str(chart))


def test_cluster_mode_has_one_cluster_role_and_namespaced_mode_none(helm: Command) -> None:
    common = ["Deployment", "Service", "ServiceAccount"]
    assert kinds(rendered(helm)) == sorted([*common, "ClusterRole", "ClusterRoleBinding"])
    namespaced = rendered(helm, "--set", "watch.namespaces={a,b}")
    assert kinds(namespaced) == sorted([*common, *["Role", "RoleBinding"] * 2])
    assert {obj["metadata"]["namespace"] for obj in namespaced if obj["kind"] == "Role"} == {"a", "b"}
    (deployment,) = (obj for obj in namespaced if obj["kind"] == "Deployment")
    env = {e["name"]: e.get("value") for e in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["POLYGLOT_NAMESPACES"] == "a,b"


def test_roles_hold_exactly_what_is_used_and_no_wildcard(helm: Command) -> None:
    role = rules(rendered(helm), "ClusterRole")
    assert "*" not in yaml.safe_dump(role)
    child = {"get", "list", "watch", "create", "patch"}
    seen = {"list", "watch"}
    expected = {(kind.group, kind.plural): seen for kind in WATCHED} | {
        (kind.group, kind.plural): child | ({"delete"} if kind in PRUNABLE else set()) for kind in CHILDREN
    }
    expected |= {
        (SERVICE.group, SERVICE.plural): seen,
        (SERVICE.group, f"{SERVICE.plural}/status"): {"patch"},
        ("", "persistentvolumeclaims"): {"get"},
        ("", "nodes"): {"list"},
        ("events.k8s.io", "events"): {"create"},
        ("apiextensions.k8s.io", "customresourcedefinitions"): seen,
    }
    assert granted(role) == expected


def test_a_namespaced_role_reaches_nothing_outside_of_its_namespace(helm: Command) -> None:
    role = granted(rules(rendered(helm, "--set", "watch.namespaces={a}"), "Role"))
    assert not {("", "nodes"), ("apiextensions.k8s.io", "customresourcedefinitions")} & set(role)


def test_the_pod_keeps_to_the_restricted_level(helm: Command, kubectl: Command, namespace: str) -> None:
    kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    (deployment,) = (obj for obj in rendered(helm) if obj["kind"] == "Deployment")
    template = deployment["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "operator", "namespace": namespace}}
    spec = {**template["spec"], "serviceAccountName": "default"}
    kubectl("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump({**pod, "spec": spec}))
    container = spec["containers"][0]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert {"livenessProbe", "readinessProbe", "startupProbe", "resources"} <= container.keys()
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]["type"]) == (1, "Recreate")


@pytest.mark.parametrize(
    "option",
    [
        "replicas=2",
        "watch.namespaces=default",
        "watch.namespaces={Not_A_Name}",
        "images.gateway=",
        "log.level=CHATTY",
        "tracing.endpoint=jaeger:4317",
    ],
)
def test_a_value_that_does_nothing_or_cannot_work_is_refused(helm: Command, option: str) -> None:
    with pytest.raises(CommandError, match="don't meet the specifications of the schema"):
        rendered(helm, "--set", option)


def test_tracing_reaches_the_process_by_the_standard_variables(helm: Command) -> None:
    (deployment,) = (
        obj for obj in rendered(helm, "--set", "tracing.endpoint=http://jaeger:4317") if obj["kind"] == "Deployment"
    )
    env = {e["name"]: e.get("value") for e in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://jaeger:4317"
    assert env["OTEL_EXPORTER_OTLP_PROTOCOL"] == "grpc"


@pytest.fixture
def install(helm: Command, images: dict[str, str]) -> Iterator[Callable[..., str]]:
    """Install or upgrade the release; afterwards it is as `make install` leaves it, whatever the test did."""
    yield partial(modes.install, helm, images)
    modes.install(helm, images)


@pytest.mark.disruptive
def test_services_and_their_pods_outlive_upgrade_and_removal_of_the_operator(
    kubectl: Command,
    helm: Command,
    get: Callable[..., Object],
    namespace: str,
    install: Callable[..., str],
) -> None:
    install()
    add_model(kubectl, namespace)
    service = declare(kubectl, namespace, "lasting")
    service.wait_ready()

    def pods() -> set[str]:
        return {pod["metadata"]["uid"] for component in ("inference", "gateway") for pod in service.pods(component)}

    before = pods()
    assert len(before) == 2

    assert "Wait until it is ready" in install("--set", "log.level=DEBUG")
    service.wait_ready()
    assert pods() == before

    helm("uninstall", "polyglot-operator", "-n", NAMESPACE, "--wait", timeout=180)
    assert not get("deployments", "-n", NAMESPACE, "-l", "app.kubernetes.io/instance=polyglot-operator")["items"]
    assert service.condition("Ready")["status"] == "True"
    assert pods() == before

    kubectl("delete", "service", "lasting-gateway", "-n", namespace)
    install()
    eventually(
        lambda: get("service/lasting-gateway", "-n", namespace)["metadata"]["name"],
        lambda name: name == "lasting-gateway",
        30,
        "repair of what was deleted while no operator ran",
    )
    assert pods() == before


def test_the_notes_say_when_the_custom_resource_is_missing(context: str) -> None:
    offline = subprocess.run(
        ["helm", "install", "x", str(CHART), "--dry-run=client", "-n", NAMESPACE],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "the custom resource is not installed" in offline.stdout

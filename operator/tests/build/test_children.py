"""What holds for the children of every service, whatever its spec."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyglot_operator.api import names
from polyglot_operator.api.model import parse
from polyglot_operator.build import Facts, Object, canonical, children
from polyglot_operator.build.facts import Capabilities, Images, MeshPhase
from polyglot_operator.build.pod import UnknownTemplateRevisionError
from polyglot_operator.cluster import kinds

MINIMAL: dict[str, Any] = {"models": [{"name": "m", "format": "ONNX", "source": {"configMap": {"name": "m"}}}]}
FACTS = Facts(owner_uid="u", images=Images(gateway="g:1", inference="i:1"), mesh=MeshPhase.STRICT)

quantities = st.sampled_from(["1000m", "0.5", 2, "1024Mi", "1.5Gi", "3e3", "100M"])
words = st.text("abcxyz019", min_size=1, max_size=8)
paths = st.lists(words, min_size=1, max_size=3).map("/".join)


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Maps that hold any of the fields."""
    return st.fixed_dictionaries({}, optional=fields)


def keyed(
    key: str, items: st.SearchStrategy[dict[str, Any]], least: int = 0
) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Lists of at most three maps that differ in a key."""
    return st.lists(items, min_size=least, max_size=3, unique_by=lambda item: str(item[key]))


sources = st.one_of(
    words.map(lambda name: {"configMap": {"name": name}}),
    optional(path=paths).map(lambda fields: {"persistentVolumeClaim": {"claimName": "c", **fields}}),
    optional(path=paths).map(lambda fields: {"image": {"reference": "r/i:1", **fields}}),
)
models = st.fixed_dictionaries({"name": words, "format": st.sampled_from(["ONNX", "Python"]), "source": sources})
environment = st.fixed_dictionaries(
    {"name": st.sampled_from(["A", "B", "OTEL_SERVICE_NAME"]), "value": words | st.just("")}
)
requests = st.fixed_dictionaries({"cpu": quantities, "memory": quantities})
tolerations = optional(key=words, effect=st.sampled_from(["NoSchedule", "NoExecute"])).map(
    lambda fields: {"operator": "Exists", **fields}
)
sizes: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.integers(1, 9).map(lambda replicas: {"replicas": replicas}),
    st.integers(1, 9).map(
        lambda most: {
            "autoscaling": {
                "maxReplicas": most,
                "metrics": [{"type": "Memory", "averageValue": "1024Mi"}, {"type": "CPU", "averageUtilization": 70}],
            }
        }
    ),
)


def workloads(**more: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Valid components; utilization targets have their requests."""
    common = st.fixed_dictionaries(
        {"resources": st.fixed_dictionaries({"requests": requests})},
        optional={
            "env": keyed("name", environment),
            "scheduling": optional(
                nodeSelector=st.dictionaries(words, words, max_size=2),
                tolerations=st.lists(tolerations, max_size=2),
                priorityClassName=words,
            ),
            **more,
        },
    )
    return st.tuples(common, sizes).map(lambda parts: parts[0] | parts[1])


specs = st.fixed_dictionaries(
    {"models": keyed("name", models, least=1)},
    optional={
        "inference": workloads(
            accelerator=optional(count=st.integers(1, 8), products=st.lists(words, max_size=3, unique=True))
        ),
        "gateway": workloads(service=optional(type=st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer"]))),
        "mesh": st.sampled_from([{}, {"mode": "Istio", "clients": "MeshOnly"}, {"mode": "None"}]),
        "telemetry": optional(
            tracing=st.sampled_from(["0.25", 1, "100"]).map(
                lambda percent: {"endpoint": "http://o:4317", "samplingPercent": percent}
            )
        ),
    },
)
facts = st.builds(
    Facts,
    owner_uid=st.just("u"),
    images=st.just(FACTS.images),
    mesh=st.sampled_from(MeshPhase),
    capabilities=st.builds(Capabilities, tracing_provider=st.sampled_from([None, True, False])),
)


def build(spec: dict[str, Any], known: Facts = FACTS, name: str = "s") -> list[Object]:
    """Return the children of a spec."""
    return children(parse({"metadata": {"name": name, "namespace": "n"}, "spec": spec}), known)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value that is no filled map or list, with its path."""
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from leaves(below, f"{path}.{key}")
    elif isinstance(value, list) and value:
        for number, below in enumerate(value):
            yield from leaves(below, f"{path}[{number}]")
    else:
        yield path, value


def deployments(built: list[Object]) -> dict[str, Object]:
    """Return the Deployments by component."""
    found = [child for child in built if child["kind"] == "Deployment"]
    return {child["metadata"]["labels"][names.COMPONENT_LABEL]: child for child in found}


@given(specs, facts)
def test_building_twice_gives_the_same_bytes(spec: dict[str, Any], known: Facts) -> None:
    first, second = build(spec, known), build(json.loads(json.dumps(spec)), dataclasses.replace(known))
    assert [canonical(child) for child in first] == [canonical(child) for child in second]


@given(specs, facts)
def test_nothing_is_sent_that_counts_as_a_change_each_time(spec: dict[str, Any], known: Facts) -> None:
    for child in build(spec, known):
        empty = [path for path, value in leaves(child) if value in (None, [], {}) and value is not False]
        assert empty == [], child["kind"]


@given(specs, facts)
def test_every_child_is_owned_labelled_and_of_a_known_kind_in_order(spec: dict[str, Any], known: Facts) -> None:
    built = build(spec, known)
    order = [(kind.api_version, kind.name) for kind in kinds.CHILDREN]
    positions = [order.index((child["apiVersion"], child["kind"])) for child in built]
    assert positions == sorted(positions)
    for child in built:
        assert [owner["uid"] for owner in child["metadata"]["ownerReferences"]] == ["u"]
        assert names.service_of_child(child["metadata"]["name"], child["metadata"]["labels"]) == "s"
        assert child["metadata"]["name"].startswith("s-")
    assert len({(child["kind"], child["metadata"]["name"]) for child in built}) == len(built)


@given(specs, facts)
def test_pods_keep_to_restricted_pod_security(spec: dict[str, Any], known: Facts) -> None:
    for deployment in deployments(build(spec, known)).values():
        pod = deployment["spec"]["template"]["spec"]
        assert [pod["hostNetwork"], pod["hostPID"], pod["hostIPC"]] == [False] * 3
        assert pod["automountServiceAccountToken"] is False
        assert not any("hostPath" in volume for volume in pod["volumes"])
        (container,) = pod["containers"]
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["privileged"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}
        for identity in (pod["securityContext"], security):
            assert identity["runAsNonRoot"] is True
            assert identity["seccompProfile"] == {"type": "RuntimeDefault"}


@given(specs, facts)
def test_accelerators_never_reach_the_gateway(spec: dict[str, Any], known: Facts) -> None:
    gateway = deployments(build(spec, known))["gateway"]
    assert "nvidia" not in canonical(gateway)


@given(specs, facts)
def test_replicas_are_left_out_exactly_under_an_autoscaler(spec: dict[str, Any], known: Facts) -> None:
    built = build(spec, known)
    scaled = {c["metadata"]["name"] for c in built if c["kind"] == "HorizontalPodAutoscaler"}
    for deployment in deployments(built).values():
        assert ("replicas" in deployment["spec"]) == (deployment["metadata"]["name"] not in scaled)


@given(specs, facts)
def test_every_mounted_volume_exists_under_a_valid_name(spec: dict[str, Any], known: Facts) -> None:
    for deployment in deployments(build(spec, known)).values():
        pod = deployment["spec"]["template"]["spec"]
        volumes = [volume["name"] for volume in pod["volumes"]]
        assert [mount["name"] for mount in pod["containers"][0]["volumeMounts"]] == volumes
        assert len(set(volumes)) == len(volumes)


SWITCHING = {"PeerAuthentication", "VirtualService", "DestinationRule"}


@pytest.mark.parametrize(
    ("phase", "kinds_there", "modes", "tls", "sidecars"),
    [
        (MeshPhase.NONE, set(), set(), [], "false"),
        (MeshPhase.PERMISSIVE, SWITCHING, {"PERMISSIVE"}, ["DISABLE"], "true"),
        (MeshPhase.MUTUAL, SWITCHING, {"PERMISSIVE"}, ["ISTIO_MUTUAL"], "true"),
        (MeshPhase.STRICT, {*SWITCHING, "AuthorizationPolicy"}, {"STRICT", "PERMISSIVE"}, ["ISTIO_MUTUAL"], "true"),
        (MeshPhase.LEAVING, SWITCHING, {"PERMISSIVE"}, ["DISABLE"], "false"),
    ],
)
def test_mesh_objects_follow_the_phase(
    phase: MeshPhase, kinds_there: set[str], modes: set[str], tls: list[str], sidecars: str
) -> None:
    built = build(MINIMAL, dataclasses.replace(FACTS, mesh=phase))
    mesh = [child for child in built if ".istio.io/" in child["apiVersion"]]
    assert {child["kind"] for child in mesh} == kinds_there
    assert {child["spec"]["mtls"]["mode"] for child in mesh if child["kind"] == "PeerAuthentication"} == modes
    rules = [child["spec"]["trafficPolicy"] for child in mesh if child["kind"] == "DestinationRule"]
    assert [rule["tls"]["mode"] for rule in rules] == tls
    for deployment in deployments(built).values():
        assert deployment["spec"]["template"]["metadata"]["labels"][names.SIDECAR_LABEL] == sidecars


def test_new_settings_roll_the_pods_of_their_component_only() -> None:
    other = {"models": [{"name": "other", "format": "ONNX", "source": {"configMap": {"name": "m"}}}]}
    before, after = deployments(build(MINIMAL)), deployments(build(other))
    assert before["gateway"] == after["gateway"]
    annotations = [d["inference"]["spec"]["template"]["metadata"]["annotations"] for d in (before, after)]
    assert annotations[0][names.CONFIG_HASH_ANNOTATION] != annotations[1][names.CONFIG_HASH_ANNOTATION]


def test_the_order_of_products_does_not_roll_the_pods() -> None:
    def products(*wanted: str) -> list[Object]:
        return build(MINIMAL | {"inference": {"accelerator": {"products": list(wanted)}}})

    assert products("A", "B") == products("B", "A")


def test_children_of_two_services_never_share_a_name() -> None:
    full = {**MINIMAL, "telemetry": {"tracing": {"endpoint": "http://o:4317"}}}
    services = ["a", "a-gateway", "a-inference", "a-telemetry", "a-gateway-gateway"]
    found = [(c["kind"], c["metadata"]["name"]) for name in services for c in build(full, name=name)]
    assert len(set(found)) == len(found)


def test_names_of_full_length_fit_every_child() -> None:
    longest = "a" * names.MAX_SERVICE_NAME
    for child in build(MINIMAL, name=longest):
        assert len(child["metadata"]["name"]) <= 63


def test_a_template_of_a_newer_operator_is_refused() -> None:
    with pytest.raises(UnknownTemplateRevisionError, match="upgrade the operator"):
        build(MINIMAL, dataclasses.replace(FACTS, template_revision=99))

"""The CRD on a real API server: what it refuses and with which words, what it fills in, what kubectl shows of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.cluster import Command, CommandError

ROOT = Path(__file__).resolve().parents[2]
CRD = ROOT / "crds" / "polyglot.dev_polyglotservices.yaml"
CHART = ROOT / "charts" / "polyglot-crds"
INVALID = yaml.safe_load((ROOT / "operator/tests/api/invalid.yaml").read_text())
GOLDEN = sorted((ROOT / "operator/tests/golden").glob("*/service.yaml"))
MODELS = [{"name": "m", "format": "ONNX", "source": {"configMap": {"name": "m"}}}]


def service(spec: dict[str, Any] | None, name: str = "digits") -> dict[str, Any]:
    """Return a custom resource with sections laid over a valid spec; None leaves the spec out."""
    body: dict[str, Any] = {"apiVersion": "polyglot.dev/v1alpha1", "kind": "PolyglotService"}
    body["metadata"] = {"name": name}
    return body if spec is None else {**body, "spec": {"models": MODELS, **spec}}


def apply(kubectl: Command, namespace: str, body: dict[str, Any], *words: str) -> str:
    """Apply a body as plain `kubectl apply` does, without keeping it."""
    return kubectl("apply", "--dry-run=server", "-n", namespace, "-f", "-", *words, stdin=json.dumps(body))


@pytest.mark.parametrize("example", INVALID, ids=lambda example: example["case"])
def test_an_invalid_service_is_refused_with_field_and_remedy(
    example: dict[str, Any], kubectl: Command, module_namespace: str
) -> None:
    body = service(example.get("spec", {}), example.get("name", "digits"))
    with pytest.raises(CommandError) as caught:
        apply(kubectl, module_namespace, body)
    refusal = str(caught.value)
    print(refusal)
    assert example["remedy"] in refusal
    assert example["field"] in refusal


def rules(schema: Any) -> Iterator[str]:
    """Yield the messages of all rules below a part of a schema."""
    if isinstance(schema, dict):
        yield from (rule["message"] for rule in schema.get("x-kubernetes-validations", ()))
    for below in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from rules(below)


def test_every_rule_of_the_crd_is_broken_by_an_invalid_service() -> None:
    (version,) = yaml.safe_load(CRD.read_text())["spec"]["versions"]
    messages = set(rules(version["schema"]))
    print(f"{len(INVALID)} invalid services break {len(messages)} of {len(messages)} rules")
    assert [m for m in messages if not any(example["remedy"] in m for example in INVALID)] == []
    assert len({example["case"] for example in INVALID}) == len(INVALID) >= 40


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.parent.name)
def test_a_valid_service_is_accepted(path: Path, kubectl: Command, module_namespace: str) -> None:
    body = yaml.safe_load(path.read_text())
    del body["metadata"]["namespace"]
    assert "created" in apply(kubectl, module_namespace, body)


@pytest.mark.parametrize("name", ["a", "a-1", "a" * 40])
def test_a_name_of_any_allowed_length_is_accepted(name: str, kubectl: Command, module_namespace: str) -> None:
    assert "created" in apply(kubectl, module_namespace, service({}, name))


@pytest.mark.parametrize("percent", [0, 100, "0.25", "100.00"])
def test_sampling_takes_whole_numbers_and_texts(percent: object, kubectl: Command, module_namespace: str) -> None:
    tracing = {"endpoint": "https://[::1]:4317", "samplingPercent": percent}
    assert "created" in apply(kubectl, module_namespace, service({"telemetry": {"tracing": tracing}}))


def test_a_misspelt_field_is_refused_by_plain_apply(kubectl: Command, module_namespace: str) -> None:
    with pytest.raises(CommandError, match=r'unknown field "spec.inference.replica"'):
        apply(kubectl, module_namespace, service({"inference": {"replica": 2}}))


def test_defaults_are_filled_in_by_the_api_server(kubectl: Command, module_namespace: str) -> None:
    spec = json.loads(apply(kubectl, module_namespace, service({}), "-o", "json"))["spec"]
    assert spec == {
        "models": MODELS,
        "inference": {"disruption": {"maxUnavailable": 1}, "workers": 1},
        "gateway": {
            "administration": "ReadOnly",
            "disruption": {"maxUnavailable": 1},
            "service": {"type": "ClusterIP"},
        },
        "mesh": {"mode": "Auto", "clients": "Any"},
    }


def test_sections_given_in_part_get_their_own_defaults(kubectl: Command, module_namespace: str) -> None:
    given = {"inference": {"accelerator": {}}, "mesh": {"clients": "MeshOnly"}, "gateway": {"service": {}}}
    spec = json.loads(apply(kubectl, module_namespace, service(given), "-o", "json"))["spec"]
    assert spec["inference"]["accelerator"] == {"resourceName": "nvidia.com/gpu", "count": 1}
    assert spec["mesh"] == {"mode": "Auto", "clients": "MeshOnly"}
    assert spec["gateway"]["service"] == {"type": "ClusterIP"}


def test_the_installed_crd_is_the_generated_one_and_established(get: Callable[..., dict[str, Any]]) -> None:
    installed = get("crd", "polyglotservices.polyglot.dev")
    generated = yaml.safe_load(CRD.read_text())
    (served,), (declared,) = installed["spec"]["versions"], generated["spec"]["versions"]
    assert served["schema"] == declared["schema"]
    conditions = {c["type"]: c["status"] for c in installed["status"]["conditions"]}
    assert conditions["Established"] == "True"
    assert conditions["NamesAccepted"] == "True"
    assert "NonStructuralSchema" not in conditions


def test_the_crd_fits_client_side_apply() -> None:
    assert CRD.stat().st_size < 200_000


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("spec.models.source", "Where the files come from."),
        ("spec.inference.accelerator.count", "Devices for each pod."),
        ("spec.gateway.service.nodePorts.rest", "Node port of the REST API"),
        ("spec.mesh.mode", "Istio puts a sidecar into every pod"),
        ("status.conditions.reason", "Stable one-word cause."),
    ],
)
def test_kubectl_explains_fields(field: str, words: str, kubectl: Command) -> None:
    explained = " ".join(kubectl("explain", f"pgs.{field}").split())
    assert words in explained


def test_kubectl_explains_no_field_without_a_description(kubectl: Command) -> None:
    assert "<empty>" not in kubectl("explain", "pgs", "--recursive")


def test_short_name_category_and_columns_are_served(kubectl: Command) -> None:
    resources = kubectl("api-resources", "--api-group=polyglot.dev", "--categories=polyglot", "--no-headers")
    assert resources.split() == ["polyglotservices", "pgs", "polyglot.dev/v1alpha1", "true", "PolyglotService"]


def test_wide_columns_come_from_the_status_subresource(kubectl: Command, namespace: str) -> None:
    kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(service({}, "columns")))
    columns = kubectl("get", "polyglot", "-n", namespace, "-o", "wide").splitlines()[0].split()
    assert columns == ["NAME", "READY", "REASON", "URL", "AGE", "MODELS", "ACCELERATOR", "MESH"]


def test_the_chart_holds_the_generated_crd_and_keeps_it(helm: Command) -> None:
    rendered = yaml.safe_load(helm("template", str(CHART)))
    assert rendered["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert rendered == yaml.safe_load(CRD.read_text())


def test_the_chart_takes_labels_and_annotations_and_may_let_the_crd_go(helm: Command) -> None:
    values = ("--set", "keep=false,labels.team=serving,annotations.note=ours")
    metadata = yaml.safe_load(helm("template", str(CHART), *values))["metadata"]
    assert metadata["labels"] == {"team": "serving"}
    assert metadata["annotations"] == {"note": "ours"}


def test_the_chart_refuses_a_misspelt_value(helm: Command) -> None:
    with pytest.raises(CommandError, match="retain"):
        helm("template", str(CHART), "--set", "retain=false")

"""Parsing a PolyglotService: lenient about what it does not know, exact about what it does."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from polyglot_operator.api.model import InvalidService, parse
from polyglot_operator.api.names import Component
from polyglot_operator.api.status import Summary

MODELS = [{"name": "m", "format": "ONNX", "source": {"configMap": {"name": "m"}}}]
INVALID = yaml.safe_load(Path(__file__).with_name("invalid.yaml").read_text())


def body(spec: dict[str, Any] | None = None, name: str = "digits") -> dict[str, Any]:
    """Return a custom resource with sections laid over a valid spec."""
    return {"metadata": {"name": name, "namespace": "demo"}, "spec": {"models": MODELS, **(spec or {})}}


@pytest.mark.parametrize("example", INVALID, ids=lambda example: example["case"])
def test_an_invalid_service_is_refused_with_field_and_remedy(example: dict[str, Any]) -> None:
    service = body(example.get("spec", {}), example.get("name", "digits"))
    if "spec" in example and example["spec"] is None:
        service["spec"] = None
    with pytest.raises(InvalidService) as caught:
        parse(service)
    remedy = example.get("offline", example["remedy"])
    assert any(example["field"] in error and remedy in error for error in caught.value.errors), caught.value.errors


def test_defaults_fill_what_is_left_out() -> None:
    spec = parse(body()).spec
    assert spec.mesh.mode == "Auto"
    assert spec.mesh.clients == "Any"
    assert spec.gateway.service.type == "ClusterIP"
    assert spec.inference.disruption.max_unavailable == 1
    assert spec.inference.floor == 1
    assert spec.inference.accelerator is None
    assert spec.telemetry is None


def test_accelerator_defaults_to_one_nvidia_device() -> None:
    accelerator = parse(body({"inference": {"accelerator": {}}})).spec.inference.accelerator
    assert accelerator is not None
    assert (accelerator.resource_name, accelerator.count) == ("nvidia.com/gpu", 1)


def test_unknown_fields_are_ignored_because_a_newer_crd_may_be_installed() -> None:
    assert parse(body({"later": 1, "mesh": {"later": {}}})).spec.mesh.mode == "Auto"


def test_nulls_count_as_absent_as_they_do_at_the_api_server() -> None:
    assert parse(body({"gateway": None, "mesh": {"mode": None}})) == parse(body())


def test_quantities_are_canonical_after_parsing() -> None:
    resources = {"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": {"cpu": 2}}
    parsed = parse(body({"inference": {"resources": resources}})).spec.inference.resources
    assert parsed is not None
    assert parsed.requests == {"cpu": "1", "memory": "1Gi"}
    assert parsed.limits == {"cpu": "2"}


@pytest.mark.parametrize("percent", [0, 1, 100, "0", "0.5", "0.25", "99.99", "100", "100.00"])
def test_sampling_takes_whole_numbers_and_texts_of_two_decimals(percent: object) -> None:
    tracing = {"endpoint": "http://[::1]:4317", "samplingPercent": percent}
    telemetry = parse(body({"telemetry": {"tracing": tracing}})).spec.telemetry
    assert telemetry is not None
    assert telemetry.tracing is not None
    assert telemetry.tracing.sampling_percent == Decimal(str(percent))


def test_the_floor_is_the_autoscalers_least() -> None:
    autoscaling = {"minReplicas": 3, "maxReplicas": 5, "metrics": [{"type": "CPU", "averageValue": 1}]}
    assert parse(body({"gateway": {"autoscaling": autoscaling}})).spec.gateway.floor == 3


def test_the_errors_of_every_field_are_told_at_once() -> None:
    wrong = {"models": [{"name": "a/b", "format": "TF", "source": {}}], "mesh": {"mode": "no"}}
    with pytest.raises(InvalidService) as caught:
        parse(body(wrong))
    fields = [error.split(":")[0] for error in caught.value.errors]
    assert fields == ["spec.models[0].name", "spec.models[0].format", "spec.models[0].source", "spec.mesh.mode"]


def test_a_body_that_is_no_object_is_refused() -> None:
    with pytest.raises(InvalidService, match=r"spec: "):
        parse({"metadata": {"name": "a"}, "spec": "text"})


def test_status_is_read_back_as_written() -> None:
    condition = {
        "type": "Ready",
        "status": "True",
        "observedGeneration": 3,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "reason": "Ready",
        "message": "",
    }
    status = {
        "observedGeneration": 3,
        "url": "http://a:8000",
        "conditions": [condition],
        "inference": {"replicas": 1, "readyReplicas": 1, "updatedReplicas": 1, "revision": "abc", "image": "i:1"},
        "capabilities": {"istioApiVersions": ["security.istio.io/v1"], "metricsApi": "Present"},
        "summary": {"models": "m", "mesh": "Istio"},
    }
    parsed = parse({**body(), "status": status}).status
    assert parsed.model_dump(mode="json", by_alias=True, exclude_none=True) == status


def test_the_summary_names_models_devices_and_mesh() -> None:
    spec = parse(body({"inference": {"accelerator": {"count": 2}}})).spec
    summary = Summary.of(spec, "Istio")
    assert (summary.models, summary.accelerator, summary.mesh) == ("m", "2 nvidia.com/gpu", "Istio")


def test_components_are_named_as_their_containers() -> None:
    assert [component.value for component in Component] == ["inference", "gateway"]

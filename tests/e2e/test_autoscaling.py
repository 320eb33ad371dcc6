"""The HPA that the operator writes is accepted, reads real metrics, and owns the replica count."""

import json
from collections.abc import Callable
from typing import Any

from tests.e2e.cluster import Command, eventually
from tests.e2e.services import AUTOSCALING, SMALL, Get, Service, add_model, children, declare, names

AUTOSCALED = {
    "apiVersion": "polyglot.dev/v1alpha1",
    "kind": "PolyglotService",
    "metadata": {"name": "scaled"},
    "spec": {
        "models": [{"name": "digits", "format": "ONNX", "source": {"configMap": {"name": "digits-model"}}}],
        "inference": {
            "autoscaling": {
                "minReplicas": 1,
                "maxReplicas": 2,
                "metrics": [{"type": "CPU", "averageUtilization": 80}],
            },
            "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        },
    },
}


def test_hpa_is_accepted_and_reads_container_metrics(
    kubectl: Command, get: Callable[..., dict[str, Any]], namespace: str
) -> None:
    service = Service(kubectl, namespace, "scaled")
    service.apply("digits/model.yaml")
    kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(AUTOSCALED))
    service.wait_ready()

    def hpa() -> dict[str, Any]:
        return get("horizontalpodautoscaler", "scaled-inference", "-n", namespace)

    def reads_metrics(seen: dict[str, Any]) -> bool:
        conditions = {c["type"]: c["status"] for c in seen.get("status", {}).get("conditions", [])}
        return conditions.get("AbleToScale") == "True" and conditions.get("ScalingActive") == "True"

    seen = eventually(hpa, reads_metrics, within=120, what="ScalingActive of the HPA")
    (metric,) = seen["status"]["currentMetrics"]
    assert metric["type"] == "ContainerResource"
    assert metric["containerResource"]["container"] == "inference"
    assert metric["containerResource"]["current"]["averageUtilization"] >= 0

    deployment = get("deployment", "scaled-inference", "-n", namespace, "--show-managed-fields")
    owned = [
        entry for entry in deployment["metadata"]["managedFields"]
        if entry["manager"] == "polyglot-operator" and "f:replicas" in entry["fieldsV1"].get("f:spec", {})
    ]  # fmt: skip
    assert owned == [], "the operator must not own spec.replicas under an autoscaler"


def test_replicas_stay_when_the_autoscaler_takes_over_and_hands_back(
    kubectl: Command, get: Get, namespace: str
) -> None:
    add_model(kubectl, namespace)
    three = {"resources": SMALL, "replicas": 3}
    service = declare(kubectl, namespace, "handed", gateway=three)
    deployment = ("deployment/handed-gateway", "-n", namespace)
    eventually(lambda: get(*deployment)["spec"]["replicas"], lambda count: count == 3, 30, "three replicas")

    seen = set()

    def scaler_is_there() -> bool:
        seen.add(get(*deployment)["spec"]["replicas"])
        return "HorizontalPodAutoscaler/handed-gateway" in names(children(get, service))

    autoscaled = {"resources": SMALL, "autoscaling": {**AUTOSCALING, "minReplicas": 3, "maxReplicas": 4}}
    declare(kubectl, namespace, "handed", gateway=autoscaled)
    eventually(scaler_is_there, lambda there: there, 20, "the autoscaler")
    declare(kubectl, namespace, "handed", gateway=three)
    eventually(scaler_is_there, lambda there: not there, 20, "the autoscaler's end")
    seen.add(get(*deployment)["spec"]["replicas"])
    assert seen == {3}

"""What a service becomes, and whether its status tells the truth."""

from __future__ import annotations

import pytest

from tests.e2e.services import ALL_CHILDREN, Get, Service, children, names

pytestmark = pytest.mark.core


def test_a_service_becomes_all_its_children_and_its_status_tells_the_truth(
    get: Get, meshed: Service, images: dict[str, str]
) -> None:
    found = children(get, meshed)
    assert names(found) == ALL_CHILDREN
    uid = meshed.read()["metadata"]["uid"]
    for child in found:
        (owner,) = child["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == (uid, True)
        assert "finalizers" not in child["metadata"]

    status = meshed.read()["status"]
    assert status["url"] == f"http://whole-gateway.{meshed.namespace}.svc.cluster.local:8000"
    assert status["observedGeneration"] == meshed.read()["metadata"]["generation"]
    for component, image in (("inference", "INFERENCE_IMAGE"), ("gateway", "GATEWAY_IMAGE")):
        (pod,) = meshed.pods(component)
        assert status[component] == {
            "replicas": 1,
            "readyReplicas": 1,
            "updatedReplicas": 1,
            "revision": pod["metadata"]["labels"]["pod-template-hash"],
            "image": images[image],
        }
    assert "security.istio.io/v1" in status["capabilities"]["istioApiVersions"]
    assert status["capabilities"]["metricsApi"] == "Present"


def test_the_framework_leaves_no_trace_on_a_service(meshed: Service) -> None:
    metadata = meshed.read()["metadata"]
    assert "finalizers" not in metadata
    assert not [key for key in metadata.get("annotations", {}) if "kopf" in key]

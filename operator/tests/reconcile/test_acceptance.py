"""Which specs a cluster can honour."""

from __future__ import annotations

from typing import Any

import pytest

from polyglot_operator.api.conditions import Reason
from polyglot_operator.api.model import PolyglotService, parse
from polyglot_operator.build.facts import Capabilities
from polyglot_operator.cluster.capabilities import ISTIO_APIS
from polyglot_operator.reconcile.acceptance import accept, sources

ALL = Capabilities(tuple(sorted(ISTIO_APIS)), True, metrics_api=True, image_volumes=True)
BARE = Capabilities()
SCALED = {
    "resources": {"requests": {"cpu": "1"}},
    "autoscaling": {"maxReplicas": 2, "metrics": [{"type": "CPU", "averageUtilization": 50}]},
}


def service(source: dict[str, Any] | None = None, **fields: Any) -> PolyglotService:
    model = {"name": "m", "format": "ONNX", "source": source or {"configMap": {"name": "c"}}}
    return parse({"metadata": {"name": "s", "namespace": "ns"}, "spec": {"models": [model], **fields}})


@pytest.mark.parametrize(
    ("declared", "capabilities", "missing", "expected"),
    [
        (service(), BARE, [], Reason.ACCEPTED),
        (service(mesh={"mode": "Auto"}), BARE, [], Reason.ACCEPTED),
        (service(mesh={"mode": "Istio"}), BARE, [], Reason.ISTIO_REQUIRED),
        (service(mesh={"mode": "Istio"}), Capabilities(("security.istio.io/v1",)), [], Reason.ISTIO_REQUIRED),
        (service(mesh={"mode": "Istio"}), ALL, [], Reason.ACCEPTED),
        (service(mesh={"clients": "MeshOnly"}), BARE, [], Reason.ISTIO_REQUIRED),
        (service(inference=SCALED), BARE, [], Reason.METRICS_API_MISSING),
        (service(gateway=SCALED), BARE, [], Reason.METRICS_API_MISSING),
        (service(gateway=SCALED), ALL, [], Reason.ACCEPTED),
        (service({"image": {"reference": "models/m:1"}}), BARE, [], Reason.IMAGE_VOLUMES_UNSUPPORTED),
        (service({"image": {"reference": "models/m:1"}}), ALL, [], Reason.ACCEPTED),
        (service(), ALL, ["ConfigMap c"], Reason.SOURCE_MISSING),
    ],
)
def test_a_spec_is_accepted_where_the_cluster_has_what_it_needs(
    declared: PolyglotService, capabilities: Capabilities, missing: list[str], expected: Reason
) -> None:
    verdict = accept(declared.spec, capabilities, missing)
    assert verdict.reason is expected
    assert verdict.holds is (expected is Reason.ACCEPTED)
    assert all(name in verdict.message for name in missing)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"configMap": {"name": "c"}}, ["ConfigMap c"]),
        ({"persistentVolumeClaim": {"claimName": "v", "path": "a/b"}}, ["PersistentVolumeClaim v"]),
        ({"image": {"reference": "models/m:1"}}, []),
    ],
)
def test_sources_that_can_be_looked_for_are_named(source: dict[str, Any], expected: list[str]) -> None:
    assert [str(ref) for ref in sources(service(source))] == expected

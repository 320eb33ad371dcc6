"""What runs of a component, gathered from objects of a real cluster."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from polyglot_operator.api.conditions import Reason
from polyglot_operator.api.names import Component
from polyglot_operator.api.workload import Workload as Spec
from polyglot_operator.cluster.inventory import Inventory, Key
from polyglot_operator.reconcile.workloads import Workload, observe

Objects = dict[str, dict[str, Any]]


def observed(objects: Iterable[dict[str, Any]], **spec: Any) -> Workload:
    inventory = Inventory()
    for obj in objects:
        inventory.put(obj)
    return observe(Component.GATEWAY, Spec.model_validate(spec), inventory.children(Key("polyglot-demo", "digits")))


def test_a_component_that_serves_is_counted_from_its_current_replica_set(gateway: Objects) -> None:
    found = observed(gateway.values())
    assert (found.replicas, found.ready, found.updated, found.current) == (1, 1, 1, 1)
    assert found.revision == gateway["Pod"]["metadata"]["labels"]["pod-template-hash"]
    assert found.image == gateway["Deployment"]["spec"]["template"]["spec"]["containers"][0]["image"]
    assert found.available
    assert found.rolled_out
    assert found.without_sidecar == ()


def test_a_component_without_deployment_does_not_exist_and_keeps_its_bounds(gateway: Objects) -> None:
    found = observed([gateway["Pod"]], replicas=3)
    assert (found.exists, found.floor, found.needed, found.available) == (False, 3, 2, False)


def test_a_new_template_has_no_current_pods_until_its_replica_set_is_there(gateway: Objects) -> None:
    gateway["Deployment"]["spec"]["template"]["metadata"]["annotations"]["example.com/rolled"] = "now"
    found = observed(gateway.values())
    assert (found.current, found.updated, found.revision) == (0, 0, None)
    assert found.available
    assert not found.rolled_out


def test_scaling_up_does_not_make_current_pods_old(gateway: Objects) -> None:
    gateway["Deployment"]["spec"]["replicas"] = 5
    gateway["Deployment"]["metadata"]["generation"] += 1
    assert observed(gateway.values()).rolled_out


def test_a_pod_without_sidecar_is_named_unless_it_is_on_its_way_out(gateway: Objects) -> None:
    pod = gateway["Pod"]
    for containers in ("containers", "initContainers"):
        pod["spec"][containers] = [c for c in pod["spec"].get(containers, []) if c["name"] != "istio-proxy"]
    assert observed(gateway.values()).without_sidecar == (pod["metadata"]["name"],)
    pod["metadata"]["deletionTimestamp"] = "2026-11-21T10:00:00Z"
    assert observed(gateway.values()).without_sidecar == ()


def test_an_unschedulable_pod_is_told_with_the_resource_it_lacks(gateway: Objects) -> None:
    message = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    condition = {"type": "PodScheduled", "status": "False", "message": message}
    gateway["Pod"]["status"] = {"phase": "Pending", "conditions": [condition]}
    found = observed(gateway.values())
    assert (found.lacks("nvidia.com/gpu"), found.lacks("amd.com/gpu")) == (1, 0)
    leaving = copy.deepcopy(gateway["Pod"])
    leaving["metadata"] |= {"name": "leaving", "uid": "leaving", "deletionTimestamp": "2026-11-21T10:00:00Z"}
    leaving["spec"]["nodeName"] = "n"
    assert observed([*gateway.values(), leaving]).lacks("nvidia.com/gpu") == 0
    assert found.diagnosis is not None
    assert found.diagnosis.reason is Reason.UNSCHEDULABLE

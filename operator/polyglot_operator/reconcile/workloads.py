"""What runs of a component, gathered from its Deployment, ReplicaSets and pods. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from polyglot_operator.api.names import Component
from polyglot_operator.api.workload import Workload as WorkloadSpec
from polyglot_operator.cluster.inventory import Child
from polyglot_operator.cluster.kinds import DEPLOYMENT, POD, REPLICA_SET, Ref
from polyglot_operator.reconcile.diagnosis import Diagnosis, diagnose, scheduling_problem
from polyglot_operator.reconcile.mesh import has_sidecar

Live = Mapping[Ref, Child]
_HASH = "pod-template-hash"


@dataclass(frozen=True, slots=True)
class Workload:
    """One component as it runs.

    `current` counts the ready pods of the current revision; `unschedulable` holds the scheduler's message for every
    pod that it finds no node for; `leaving` counts the pods that are being deleted and still occupy their node.
    """

    component: Component
    exists: bool = False
    replicas: int = 0
    ready: int = 0
    updated: int = 0
    current: int = 0
    revision: str | None = None
    image: str | None = None
    floor: int = 1
    max_unavailable: int = 1
    unschedulable: tuple[str, ...] = ()
    leaving: int = 0
    without_sidecar: tuple[str, ...] = ()
    diagnosis: Diagnosis | None = None

    @property
    def needed(self) -> int:
        """Ready pods of any revision below which the component counts as unavailable."""
        return max(1, self.floor - self.max_unavailable)

    @property
    def available(self) -> bool:
        """Whether enough pods serve."""
        return self.ready >= self.needed

    def lacks(self, resource: str) -> int:
        """Return how many pods wait for an extended resource that no pod of the component is about to give back."""
        return max(0, sum(f"Insufficient {resource}" in message for message in self.unschedulable) - self.leaving)

    @property
    def rolled_out(self) -> bool:
        """Whether enough pods of the current revision serve."""
        return self.current >= self.floor


def observe(component: Component, spec: WorkloadSpec, live: Live) -> Workload:
    """Gather what runs of a component; `live` holds the service's children and pods."""
    absent = Workload(component, floor=spec.floor, max_unavailable=spec.disruption.max_unavailable)
    pods = [child.view for ref, child in live.items() if ref.kind == POD and child.component == component]
    deployment = next(
        (child for ref, child in live.items() if ref.kind == DEPLOYMENT and child.component == component), None
    )
    if deployment is None:
        return absent
    view, status = deployment.view, deployment.view["status"]
    newest = _current_replica_set(deployment, live)
    serving = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    latest = [pod for pod in serving if newest is None or _hash(pod) == _hash(newest)]
    unready = [pod for pod in latest if not _is_ready(pod)]
    return replace(
        absent,
        exists=True,
        replicas=status.get("replicas", 0),
        ready=status.get("readyReplicas", 0),
        updated=status.get("updatedReplicas", 0) if newest is not None else 0,
        current=newest["status"].get("readyReplicas", 0) if newest is not None else 0,
        revision=_hash(newest) if newest is not None else None,
        image=_image(view, component),
        unschedulable=tuple(problem for pod in serving if (problem := scheduling_problem(pod)) is not None),
        leaving=sum("deletionTimestamp" in pod["metadata"] and "nodeName" in pod["spec"] for pod in pods),
        without_sidecar=tuple(sorted(pod["metadata"]["name"] for pod in serving if not has_sidecar(pod))),
        diagnosis=diagnose(unready, status.get("conditions", ())),
    )


def _current_replica_set(deployment: Child, live: Live) -> Mapping[str, Any] | None:
    """Return the ReplicaSet of the Deployment's present pod template; None before the controller has made it.

    Templates are compared, not generations: an autoscaler moves the generation without starting a new revision.
    """
    owned = (child for ref, child in live.items() if ref.kind == REPLICA_SET and child.owner == deployment.uid)
    return next((child.view for child in owned if child.template == deployment.template), None)


def _hash(view: Mapping[str, Any]) -> str | None:
    found = view["metadata"].get("labels", {}).get(_HASH)
    return None if found is None else str(found)


def _image(deployment: Mapping[str, Any], component: Component) -> str | None:
    containers = deployment["spec"]["template"]["spec"]["containers"]
    return next((container["image"] for container in containers if container["name"] == component), None)


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", ())
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)

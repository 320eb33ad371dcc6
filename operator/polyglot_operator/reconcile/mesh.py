"""Where a service stands on its way into or out of the mesh, and which step comes next. Pure.

The order keeps every moment of a switch served, and never sends plaintext once mutual TLS was required: see
docs/decisions and `MeshPhase`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from polyglot_operator.api import names
from polyglot_operator.api.conditions import ConditionType, Reason
from polyglot_operator.build.facts import MeshPhase
from polyglot_operator.cluster.inventory import Child
from polyglot_operator.cluster.kinds import DEPLOYMENT, DESTINATION_RULE, PEER_AUTHENTICATION, POD, Kind, Ref

SETTLE: Final = 10.0  # seconds until every sidecar has surely got a change of policy

_ARRIVED: Final = frozenset({Reason.SIDECARS_READY, Reason.SIDECARS_MISSING, Reason.TRACING_PROVIDER_MISSING})


@dataclass(frozen=True, slots=True)
class Sidecars:
    """How many of a service's pods, terminating ones included, have a sidecar."""

    present: int
    pods: int

    @classmethod
    def among(cls, live: Mapping[Ref, Child]) -> Sidecars:
        """Count the pods in the children of a service."""
        pods = [
            child.view for ref, child in live.items() if ref.kind == POD and child.view["status"].get("phase") in _ALIVE
        ]
        return cls(sum(has_sidecar(pod) for pod in pods), len(pods))

    @property
    def everywhere(self) -> bool:
        """Whether no pod lacks one."""
        return self.present == self.pods


_ALIVE: Final = frozenset({None, "Pending", "Running", "Unknown"})


def has_sidecar(pod: Mapping[str, Any]) -> bool:
    """Tell whether Istio has injected its proxy into a pod, as a container or as a native sidecar."""
    spec = pod["spec"]
    containers: Iterable[Mapping[str, Any]] = (*spec.get("containers", ()), *spec.get("initContainers", ()))
    return any(container["name"] == names.SIDECAR_CONTAINER for container in containers)


def pinned_mode(live: Mapping[Ref, Child]) -> str | None:
    """Return the decision that the Deployments carry, `Istio` or `None`; None for a service that has none yet.

    One that says `Istio` is enough: else an edit of one annotation would lead the service out of the mesh.
    """
    annotations = [child.view["metadata"]["annotations"] for ref, child in live.items() if ref.kind == DEPLOYMENT]
    pinned = {found[names.MESH_ANNOTATION] for found in annotations if names.MESH_ANNOTATION in found}
    return "Istio" if "Istio" in pinned else next(iter(pinned), None)


def wanted(mode: str, pinned: str | None, served: bool) -> bool:
    """Decide whether a service belongs into the mesh; Auto follows the cluster once and its own pin ever after."""
    if mode == "Auto":
        return pinned == "Istio" if pinned is not None else served
    return mode == "Istio"


def observed_phase(service: str, live: Mapping[Ref, Child], status: Mapping[str, Any]) -> MeshPhase | None:
    """Return the phase that a service is in; None before its first Deployment.

    Once STRICT was reached, status remembers it, so that a policy deleted by hand is repaired as STRICT and never
    by way of a weaker phase.
    """
    deployments = [child.view for ref, child in live.items() if ref.kind == DEPLOYMENT]
    if not deployments:
        return None
    injecting = any(
        view["spec"]["template"]["metadata"]["labels"].get(names.SIDECAR_LABEL) == "true" for view in deployments
    )
    inference = names.child(service, names.Component.INFERENCE)
    authentication = _spec_of(PEER_AUTHENTICATION, inference, live).get("mtls", {}).get("mode")
    tls = _spec_of(DESTINATION_RULE, inference, live).get("trafficPolicy", {}).get("tls", {}).get("mode")
    if injecting and (authentication == "STRICT" or _has_arrived(status)):
        return MeshPhase.STRICT
    if injecting:
        return MeshPhase.MUTUAL if tls == "ISTIO_MUTUAL" else MeshPhase.PERMISSIVE
    return MeshPhase.LEAVING if authentication else MeshPhase.NONE


def next_phase(
    current: MeshPhase | None, want: bool, sidecars: Sidecars, *, settled: bool, accepted: bool
) -> MeshPhase:
    """Return the phase to build for: the current one, or the next when what it waits for has come.

    `settled` tells that the current phase has lasted for `SETTLE` seconds. While the spec is not `accepted` nothing is
    applied, and so no step is taken.
    """
    if current is None:
        return MeshPhase.STRICT if want else MeshPhase.NONE
    if not accepted:
        return current
    if want:
        return _next_inwards(current, sidecars, settled)
    return _next_outwards(current, sidecars, settled)


def _next_inwards(current: MeshPhase, sidecars: Sidecars, settled: bool) -> MeshPhase:
    match current:
        case MeshPhase.NONE | MeshPhase.LEAVING:
            return MeshPhase.PERMISSIVE
        case MeshPhase.PERMISSIVE if settled and sidecars.everywhere:
            return MeshPhase.MUTUAL
        case MeshPhase.MUTUAL if settled:
            return MeshPhase.STRICT
        case _:
            return current


def _next_outwards(current: MeshPhase, sidecars: Sidecars, settled: bool) -> MeshPhase:
    match current:
        case MeshPhase.STRICT:
            return MeshPhase.MUTUAL
        case MeshPhase.MUTUAL if settled:
            return MeshPhase.PERMISSIVE
        case MeshPhase.PERMISSIVE if settled:
            return MeshPhase.LEAVING
        case MeshPhase.LEAVING if settled and sidecars.present == 0:
            return MeshPhase.NONE
        case _:
            return current


def _has_arrived(status: Mapping[str, Any]) -> bool:
    conditions = status.get("conditions", ())
    return any(c["type"] == ConditionType.MESH_READY and c["reason"] in _ARRIVED for c in conditions)


def _spec_of(kind: Kind, name: str, live: Mapping[Ref, Child]) -> Mapping[str, Any]:
    specs: Iterable[Mapping[str, Any]] = (
        child.view["spec"] for ref, child in live.items() if (ref.kind, ref.name) == (kind, name)
    )
    return next(iter(specs), {})

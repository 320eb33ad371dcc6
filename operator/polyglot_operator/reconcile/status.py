"""What a service's status says, from what was observed. Pure: the same observations give the same status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Any, Final

from polyglot_operator.api.conditions import ConditionType, Reason
from polyglot_operator.api.conditions import Status as Truth
from polyglot_operator.api.model import Accelerator, Spec
from polyglot_operator.api.status import CapabilitiesStatus, ComponentStatus, Condition, Status, Summary
from polyglot_operator.build.facts import Capabilities, MeshPhase
from polyglot_operator.reconcile.accelerators import Free
from polyglot_operator.reconcile.workloads import Workload

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One judgement: whether something holds, the stable reason, and words for people."""

    truth: Truth
    reason: Reason
    message: str

    @property
    def holds(self) -> bool:
        """Whether the judgement is `True`."""
        return self.truth == "True"


@dataclass(frozen=True, slots=True)
class MeshView:
    """The mesh as this service sees it: what is asked, where it stands, and what the cluster has."""

    mode: str
    phase: MeshPhase
    wanted: bool
    served: bool
    spreading: bool = False
    """Whether the phase is so new that a sidecar may not have got its policies yet."""

    @property
    def arrived(self) -> bool:
        """Whether no switch is under way."""
        if self.wanted:
            return self.phase is MeshPhase.STRICT and not self.spreading
        return self.phase is MeshPhase.NONE


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything that a status is made of; `spec` is None while it can't be read."""

    generation: int
    url: str
    accepted: Verdict
    reconciled: Verdict
    capabilities: Capabilities
    spec: Spec | None = None
    mesh: MeshView | None = None
    workloads: Sequence[Workload] = field(default=())
    free: Free | None = None


class Change(IntEnum):
    """How much two statuses differ, and so how soon the new one is written."""

    NONE = 0
    DETAILS = 1  # counts and messages: may wait
    CONDITIONS = 2  # a generation, the status or the reason of a condition: at once


def make(observed: Observed, previous: Mapping[str, Any], now: datetime) -> Object:
    """Return the status as the API server stores it; a condition keeps its time until its status flips."""
    judged = judge(observed)
    runs = {workload.component.value: _component(workload) for workload in observed.workloads}
    status = Status(
        observed_generation=observed.generation,
        url=observed.url,
        conditions=tuple(_condition(kind, verdict, observed, previous, now) for kind, verdict in judged.items()),
        inference=runs.get("inference"),
        gateway=runs.get("gateway"),
        capabilities=_capabilities(observed.capabilities),
        summary=Summary.of(observed.spec, observed.mesh.phase.mode) if observed.spec and observed.mesh else None,
    )
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def judge(observed: Observed) -> dict[ConditionType, Verdict]:
    """Return every condition, in the order in which they are judged; Ready sums up the others."""
    available = _available(observed.workloads)
    mesh = _mesh_ready(observed)
    return {
        ConditionType.ACCEPTED: observed.accepted,
        ConditionType.RECONCILED: observed.reconciled,
        ConditionType.AVAILABLE: available,
        ConditionType.ACCELERATORS_AVAILABLE: _accelerators(observed),
        ConditionType.MESH_READY: mesh,
        ConditionType.READY: _ready(observed.accepted, observed.reconciled, available, mesh, observed.workloads),
    }


def change(old: Mapping[str, Any], new: Mapping[str, Any]) -> Change:
    """Tell how much differs."""
    if old == new:
        return Change.NONE
    return Change.DETAILS if _essence(old) == _essence(new) else Change.CONDITIONS


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> Object:
    """Return the JSON merge patch (RFC 7386) that turns `old` into `new`."""
    patch: Object = dict.fromkeys(old.keys() - new.keys())
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            if inner := merge_patch(before, value):
                patch[key] = inner
        elif value != before:
            patch[key] = value
    return patch


@dataclass(frozen=True, slots=True)
class Transition:
    """A condition that changed its status or its reason; `bad` when it is something to look at."""

    kind: ConditionType
    reason: str
    message: str
    bad: bool


def transitions(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Transition]:
    """Return what is worth a Kubernetes Event.

    Ready counts when it flips, or when it turns bad by itself: by a rollout that fails while old pods serve. Otherwise
    it repeats the reasons of others. What a new service starts with is no transition unless something is wrong.
    """
    before = {c["type"]: (c["status"], c["reason"]) for c in old.get("conditions", ())}
    told = {c["reason"] for c in new.get("conditions", ()) if c["type"] != ConditionType.READY}
    found = []
    for condition in new.get("conditions", ()):
        kind, status, reason = ConditionType(condition["type"]), condition["status"], condition["reason"]
        bad = status != "True" and reason not in _PASSING
        was = before.get(kind)
        flipped = was is not None and was[0] != status
        own = kind != ConditionType.READY or (bad and reason not in told)
        changed = was is not None and was != (status, reason) and own
        first = was is None and bad and own
        if flipped or changed or first:
            found.append(Transition(kind, reason, condition.get("message", ""), bad))
    return found


_PASSING: Final = frozenset({Reason.STARTING, Reason.ROLLING_OUT, Reason.SWITCHING, Reason.NOT_ACCEPTED})


def _available(workloads: Sequence[Workload]) -> Verdict:
    short = [workload for workload in workloads if not workload.available]
    if workloads and not short:
        return Verdict("True", Reason.AVAILABLE, "; ".join(_counts(workload) for workload in workloads))
    if not short:
        return Verdict("False", Reason.STARTING, "nothing has been applied yet")
    worst = next((w for w in short if w.diagnosis and w.diagnosis.reason != Reason.STARTING), short[0])
    cause = worst.diagnosis
    if cause is None:
        return Verdict("False", Reason.STARTING, f"{worst.component} has no Deployment yet")
    return Verdict("False", cause.reason, f"{_counts(worst)}: {cause.message}")


def _counts(workload: Workload) -> str:
    return f"{workload.component} has {workload.ready} ready, needs {workload.needed}"


def _accelerators(observed: Observed) -> Verdict:
    accelerator = observed.spec.inference.accelerator if observed.spec else None
    if accelerator is None:
        return Verdict("True", Reason.NOT_REQUESTED, "no accelerator is asked for")
    lacking = sum(workload.lacks(accelerator.resource_name) for workload in observed.workloads)
    short = lacking if observed.free is None else observed.free.short
    if not short:
        return Verdict("True", Reason.ALLOCATED, "no pod waits for an accelerator")
    return Verdict("False", Reason.INSUFFICIENT_ACCELERATORS, _shortage(accelerator, short, observed.free))


def _shortage(accelerator: Accelerator, pods: int, free: Free | None) -> str:
    product = f" ({' or '.join(sorted(accelerator.products))})" if accelerator.products else ""
    asked = f"{pods} pod(s) wait for {accelerator.count} {accelerator.resource_name}{product} each"
    if free is None:
        return f"{asked}; how many are free is unknown: the operator may not read nodes in namespaced mode"
    return f"{asked}; {free.free} of {free.total} are free, at most {free.largest} on one node"


_STEPS: Final = {
    MeshPhase.NONE: "traffic is plain until the spec is accepted",
    MeshPhase.PERMISSIVE: "both plaintext and mutual TLS are accepted while pods change",
    MeshPhase.MUTUAL: "mutual TLS is sent and not yet required",
    MeshPhase.STRICT: "mutual TLS is required",
    MeshPhase.LEAVING: "pods are being replaced by pods without a sidecar",
}


def _mesh_ready(observed: Observed) -> Verdict:
    mesh = observed.mesh
    if mesh is None:
        return Verdict("Unknown", Reason.NOT_ACCEPTED, "the spec could not be read")
    if not mesh.wanted and mesh.arrived:
        return _plain(mesh)
    if not mesh.served:
        if mesh.phase is MeshPhase.NONE or not any(workload.exists for workload in observed.workloads):
            return Verdict("False", Reason.ISTIO_REQUIRED, "the cluster does not serve Istio's v1 APIs")
        return Verdict("False", Reason.ISTIO_VANISHED, "the service has sidecars and Istio's v1 APIs are not served")
    if not mesh.arrived:
        return Verdict("False", Reason.SWITCHING, f"step {mesh.phase.value}: {_STEPS[mesh.phase]}")
    return _sidecars(observed)


def _plain(mesh: MeshView) -> Verdict:
    if mesh.mode == "None":
        return Verdict("True", Reason.MESH_DISABLED, "mesh.mode is None: traffic is plain")
    if mesh.served:
        return Verdict("True", Reason.ISTIO_APPEARED, "Istio was installed after the service: traffic stays plain")
    return Verdict("True", Reason.ISTIO_ABSENT, "the cluster has no Istio: traffic is plain")


def _sidecars(observed: Observed) -> Verdict:
    lacking = [pod for workload in observed.workloads for pod in workload.without_sidecar]
    if lacking:
        return Verdict("False", Reason.SIDECARS_MISSING, f"without a sidecar: {', '.join(lacking)}")
    tracing = observed.spec is not None and observed.spec.telemetry is not None and observed.spec.telemetry.tracing
    if tracing and observed.capabilities.tracing_provider is False:
        return Verdict("True", Reason.TRACING_PROVIDER_MISSING, "the mesh has no extension provider `otel`")
    unknown = "; whether it traces is unknown" if tracing and observed.capabilities.tracing_provider is None else ""
    return Verdict("True", Reason.SIDECARS_READY, f"every pod has its sidecar{unknown}")


def _ready(
    accepted: Verdict, reconciled: Verdict, available: Verdict, mesh: Verdict, workloads: Sequence[Workload]
) -> Verdict:
    for verdict in (accepted, reconciled, available, mesh):
        if not verdict.holds:
            return Verdict("False", verdict.reason, verdict.message)
    for workload in workloads:
        if not workload.rolled_out:
            return _rollout(workload)
    return Verdict("True", Reason.READY, "the service is as declared and serves")


def _rollout(workload: Workload) -> Verdict:
    """Judge a rollout that is under way: by what has failed, if anything has."""
    counts = f"{workload.component} has {workload.current} ready of the current revision, needs {workload.floor}"
    cause = workload.diagnosis
    if cause is None or cause.reason == Reason.STARTING:
        return Verdict("False", Reason.ROLLING_OUT, counts)
    return Verdict("False", cause.reason, f"{counts}: {cause.message}")


def _component(workload: Workload) -> ComponentStatus:
    return ComponentStatus(
        replicas=workload.replicas,
        ready_replicas=workload.ready,
        updated_replicas=workload.updated,
        revision=workload.revision,
        image=workload.image,
    )


def _capabilities(found: Capabilities) -> CapabilitiesStatus:
    provider: Final = {True: "Present", False: "Missing", None: "Unknown"}
    return CapabilitiesStatus.model_validate(
        {
            "istioApiVersions": found.istio,
            "tracingProvider": provider[found.tracing_provider] if found.istio else None,
            "metricsApi": provider[found.metrics_api],
            "imageVolumes": provider[found.image_volumes],
        }
    )


def _condition(
    kind: ConditionType, verdict: Verdict, observed: Observed, previous: Mapping[str, Any], now: datetime
) -> Condition:
    before = next((c for c in previous.get("conditions", ()) if c["type"] == kind), None)
    kept = before is not None and before["status"] == verdict.truth
    return Condition(
        type=kind.value,
        status=verdict.truth,
        observed_generation=observed.generation,
        last_transition_time=before["lastTransitionTime"] if kept and before else now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        reason=verdict.reason.value,
        message=verdict.message,
    )


def _essence(status: Mapping[str, Any]) -> Any:
    conditions = [(c["type"], c["status"], c["reason"]) for c in status.get("conditions", ())]
    return status.get("observedGeneration"), conditions

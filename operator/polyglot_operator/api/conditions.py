"""Condition types and reasons of a service, as data: status and docs/reference/conditions.md are written from here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

Status = Literal["True", "False", "Unknown"]


class ConditionType(StrEnum):
    """The conditions of a service, all of them positive, in the order in which they are judged."""

    ACCEPTED = "Accepted"
    RECONCILED = "Reconciled"
    AVAILABLE = "Available"
    ACCELERATORS_AVAILABLE = "AcceleratorsAvailable"
    MESH_READY = "MeshReady"
    READY = "Ready"


MEANINGS: Final[dict[ConditionType, str]] = {
    ConditionType.ACCEPTED: "The spec is valid and this cluster can honour all of it. "
    "While it is False nothing is applied, repaired or pruned: what runs keeps running.",
    ConditionType.RECONCILED: "Every child is as the spec declares it.",
    ConditionType.AVAILABLE: "Both components serve: ready pods of any revision are at least "
    "max(1, floor - disruption.maxUnavailable), where floor is replicas or minReplicas.",
    ConditionType.ACCELERATORS_AVAILABLE: "No pod waits for an accelerator.",
    ConditionType.MESH_READY: "The mesh is as the spec asks: with Istio every current pod has its sidecar.",
    ConditionType.READY: "Accepted, Reconciled, Available and MeshReady hold, and ready pods of the current revision "
    "are at least floor, for the current generation. Scaling up never clears it.",
}


class Reason(StrEnum):
    """Stable one-word causes; programs may rely on them, messages they may not."""

    ACCEPTED = "Accepted"
    INVALID_SPEC = "InvalidSpec"
    ISTIO_REQUIRED = "IstioRequired"
    METRICS_API_MISSING = "MetricsAPIMissing"
    IMAGE_VOLUMES_UNSUPPORTED = "ImageVolumesUnsupported"
    SOURCE_MISSING = "SourceMissing"

    RECONCILED = "Reconciled"
    NOT_ACCEPTED = "NotAccepted"
    NAME_CONFLICT = "NameConflict"
    CHILD_TERMINATING = "ChildTerminating"
    APPLY_REFUSED = "ApplyRefused"
    APPLY_FAILED = "ApplyFailed"

    AVAILABLE = "Available"
    STARTING = "Starting"
    MODEL_FAILED = "ModelFailed"
    CRASH_LOOPING = "CrashLooping"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CONTAINER_CONFIG_INVALID = "ContainerConfigInvalid"
    POD_CREATION_REFUSED = "PodCreationRefused"
    UNSCHEDULABLE = "Unschedulable"

    NOT_REQUESTED = "NotRequested"
    ALLOCATED = "Allocated"
    INSUFFICIENT_ACCELERATORS = "InsufficientAccelerators"

    SIDECARS_READY = "SidecarsReady"
    TRACING_PROVIDER_MISSING = "TracingProviderMissing"
    MESH_DISABLED = "MeshDisabled"
    ISTIO_ABSENT = "IstioAbsent"
    ISTIO_APPEARED = "IstioAppeared"
    ISTIO_VANISHED = "IstioVanished"
    SIDECARS_MISSING = "SidecarsMissing"
    SWITCHING = "Switching"

    READY = "Ready"
    ROLLING_OUT = "RollingOut"


@dataclass(frozen=True, slots=True)
class Row:
    """One documented outcome of a condition."""

    type: ConditionType
    status: Status
    reason: Reason
    meaning: str
    remedy: str


_T = ConditionType
_R = Reason
_NOTHING = "Nothing."

# Ready repeats the reason of the first condition that fails, or has that of Available for a rollout that fails; its own
# rows are the two that no other condition has.
REASONS: Final[tuple[Row, ...]] = (
    Row(_T.ACCEPTED, "True", _R.ACCEPTED, "The spec is valid and the cluster can honour it.", _NOTHING),
    Row(
        _T.ACCEPTED, "False", _R.INVALID_SPEC,
        "The stored spec breaks a rule that the installed CRD does not know.",
        "Upgrade the chart polyglot-crds, then correct the fields that the message names.",
    ),
    Row(
        _T.ACCEPTED, "False", _R.ISTIO_REQUIRED,
        "mesh.mode is Istio, or mesh.clients is MeshOnly, and the cluster does not serve Istio's v1 APIs.",
        "Install Istio 1.22 or newer, or set mesh.mode to None and mesh.clients to Any.",
    ),
    Row(
        _T.ACCEPTED, "False", _R.METRICS_API_MISSING,
        "autoscaling is set and the cluster does not serve metrics.k8s.io.",
        "Install metrics-server, or set replicas instead of autoscaling.",
    ),
    Row(
        _T.ACCEPTED, "False", _R.IMAGE_VOLUMES_UNSUPPORTED,
        "A model's source is an image and the cluster does not mount images as volumes.",
        "Use Kubernetes 1.35 or newer, or a persistentVolumeClaim or configMap source.",
    ),
    Row(
        _T.ACCEPTED, "False", _R.SOURCE_MISSING,
        "A ConfigMap or PersistentVolumeClaim that a model's source names does not exist in the namespace.",
        "Create it, or correct its name; it is looked for again every 30 s.",
    ),
    Row(_T.RECONCILED, "True", _R.RECONCILED, "Every child is as declared.", _NOTHING),
    Row(
        _T.RECONCILED, "False", _R.NOT_ACCEPTED,
        "The current spec is not accepted, so that nothing was applied.",
        "See the condition Accepted.",
    ),
    Row(
        _T.RECONCILED, "False", _R.NAME_CONFLICT,
        "An object with the name of a child exists and does not belong to this service; it is left alone.",
        "Delete or rename the object that the message names, or rename the service.",
    ),
    Row(
        _T.RECONCILED, "False", _R.CHILD_TERMINATING,
        "A child is being deleted; it is made anew when it is gone.",
        "Wait; when it lasts, a finalizer that the message names holds the child: let its owner finish, or remove it.",
    ),
    Row(
        _T.RECONCILED, "False", _R.APPLY_REFUSED,
        "The API server or an admission webhook refused a child.",
        "The message holds the refusal: correct the field, the quota or the policy that it names.",
    ),
    Row(
        _T.RECONCILED, "False", _R.APPLY_FAILED,
        "The API server could not be reached, or failed, while children were applied.",
        "Nothing: it is tried again with growing pauses. When it lasts, look at the API server and the operator's log.",
    ),
    Row(_T.AVAILABLE, "True", _R.AVAILABLE, "Enough pods of both components are ready.", _NOTHING),
    Row(
        _T.AVAILABLE, "False", _R.STARTING,
        "Pods are starting and nothing has failed so far.",
        "Wait; a model has ten minutes to load.",
    ),
    Row(
        _T.AVAILABLE, "False", _R.MODEL_FAILED,
        "The inference server ended because a model does not load.",
        "The message is the server's last word: correct the model or its source.",
    ),
    Row(
        _T.AVAILABLE, "False", _R.CRASH_LOOPING,
        "A container keeps ending.",
        "The message holds its last words and exit status; `kubectl logs --previous` has the rest.",
    ),
    Row(
        _T.AVAILABLE, "False", _R.IMAGE_PULL_FAILED,
        "An image of a container or of a model can't be pulled.",
        "Correct the reference, or add a pull secret to the component's ServiceAccount.",
    ),
    Row(
        _T.AVAILABLE, "False", _R.CONTAINER_CONFIG_INVALID,
        "The kubelet can't create a container, for example because env refers to a Secret that does not exist.",
        "Create what the message names, or correct env.",
    ),
    Row(
        _T.AVAILABLE, "False", _R.POD_CREATION_REFUSED,
        "The API server refuses new pods: a quota, an unknown priority or runtime class, or Pod Security.",
        "The message holds the refusal: raise the quota or correct the class.",
    ),
    Row(
        _T.AVAILABLE, "False", _R.UNSCHEDULABLE,
        "No node can take a pod.",
        "The message is the scheduler's: add nodes, or lower resources, nodeSelector or accelerator.",
    ),
    Row(_T.ACCELERATORS_AVAILABLE, "True", _R.NOT_REQUESTED, "The spec asks for no accelerator.", _NOTHING),
    Row(_T.ACCELERATORS_AVAILABLE, "True", _R.ALLOCATED, "No pod waits for an accelerator.", _NOTHING),
    Row(
        _T.ACCELERATORS_AVAILABLE, "False", _R.INSUFFICIENT_ACCELERATORS,
        "A pod waits for accelerators that no node has free and no pod of the service is about to give back.",
        "The message says how many were asked and are free: add nodes or devices, or lower count or replicas.",
    ),
    Row(_T.MESH_READY, "True", _R.SIDECARS_READY, "Every current pod has its sidecar.", _NOTHING),
    Row(
        _T.MESH_READY, "True", _R.TRACING_PROVIDER_MISSING,
        "Every current pod has its sidecar, but the mesh has no provider `otel`: traces lack the sidecars' spans.",
        "Add the extension provider `otel` to the mesh's configuration.",
    ),
    Row(_T.MESH_READY, "True", _R.MESH_DISABLED, "mesh.mode is None: traffic is plain.", _NOTHING),
    Row(
        _T.MESH_READY, "True", _R.ISTIO_ABSENT,
        "mesh.mode is Auto and the cluster had no Istio when the service was created: traffic is plain.",
        "Nothing, or install Istio and set mesh.mode to Istio.",
    ),
    Row(
        _T.MESH_READY, "True", _R.ISTIO_APPEARED,
        "mesh.mode is Auto, the service runs plain, and Istio was installed since.",
        "Set mesh.mode to Istio to move it into the mesh; nothing rolls unasked.",
    ),
    Row(
        _T.MESH_READY, "False", _R.ISTIO_VANISHED,
        "The service runs in the mesh, and the cluster no longer serves Istio's APIs.",
        "Install Istio again, or set mesh.mode to None to move the service out of the mesh.",
    ),
    Row(
        _T.MESH_READY, "False", _R.SIDECARS_MISSING,
        "A current pod has no sidecar.",
        "Look whether Istio's injection webhook runs and the namespace's Pod Security level admits sidecars.",
    ),
    Row(
        _T.MESH_READY, "False", _R.SWITCHING,
        "The service is moving into or out of the mesh, step by step, while it serves.",
        "Wait; the message names the step.",
    ),
    Row(
        _T.MESH_READY, "False", _R.ISTIO_REQUIRED,
        "mesh.mode is Istio and the cluster does not serve Istio's v1 APIs; nothing runs yet.",
        "Install Istio 1.22 or newer, or set mesh.mode to None.",
    ),
    Row(
        _T.MESH_READY, "Unknown", _R.NOT_ACCEPTED,
        "The stored spec can't be read, so that the mesh it asks for is unknown.",
        "See the condition Accepted.",
    ),
    Row(_T.READY, "True", _R.READY, "The service is as declared and serves.", _NOTHING),
    Row(
        _T.READY, "False", _R.ROLLING_OUT,
        "The service is available, too few ready pods are of the current revision, and nothing has failed so far.",
        "Wait.",
    ),
)  # fmt: skip

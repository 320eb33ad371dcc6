"""What the operator observes of a service: the status subresource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field

from polyglot_operator.api.base import SET, Part, bounded, keyed_by, text, whole

if TYPE_CHECKING:
    from polyglot_operator.api.model import Spec

Count = Annotated[int, whole(0, 2**31 - 1)]


class Condition(Part):
    """One judgement about the service. docs/reference/conditions.md explains every type and reason."""

    type: Annotated[str, text(316)]
    """Type of the condition."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    observed_generation: int = 0
    """Generation of the spec that was judged."""
    last_transition_time: Annotated[str, text(64), Field(json_schema_extra={"format": "date-time"})]
    """When status last changed, in RFC 3339."""
    reason: Annotated[str, text(1024)]
    """Stable one-word cause."""
    message: Annotated[str, text(32768, 0)] = ""
    """The cause in words, with what to do."""


class ComponentStatus(Part):
    """What runs of one component."""

    replicas: Count | None = None
    """Pods that exist."""
    ready_replicas: Count | None = None
    """Pods that are ready, of any revision."""
    updated_replicas: Count | None = None
    """Pods of the current revision."""
    revision: Annotated[str, text(63)] | None = None
    """Hash of the current pod template: the label pod-template-hash of its pods."""
    image: Annotated[str, text(512)] | None = None
    """Image that the component runs, from the spec or the operator's own."""


class CapabilitiesStatus(Part):
    """What the operator found the cluster able to do."""

    istio_api_versions: Annotated[tuple[Annotated[str, text(253)], ...], bounded(32), SET] | None = None
    """Served API versions of Istio's groups; absent without Istio."""
    tracing_provider: Literal["Present", "Missing", "Unknown"] | None = None
    """Whether the mesh has the extension provider `otel`."""
    metrics_api: Literal["Present", "Missing"] | None = None
    """Whether the cluster serves metrics.k8s.io, which autoscaling needs."""
    image_volumes: Literal["Present", "Missing"] | None = None
    """Whether the cluster mounts OCI images as volumes."""


class Summary(Part):
    """One-line texts for the columns of `kubectl get`."""

    models: Annotated[str, text(1100, 0)] | None = None
    """Names of the models."""
    accelerator: Annotated[str, text(320, 0)] | None = None
    """Devices for each inference pod, such as `1 nvidia.com/gpu`."""
    mesh: Annotated[str, text(64, 0)] | None = None
    """The mesh that the service runs in: Istio or None."""

    @classmethod
    def of(cls, spec: Spec, mesh: str) -> Self:
        """Summarise a spec whose mesh mode was resolved to `Istio` or `None`."""
        accelerator = spec.inference.accelerator
        return cls(
            models=", ".join(model.name for model in spec.models),
            accelerator=f"{accelerator.count} {accelerator.resource_name}" if accelerator else None,
            mesh=mesh,
        )


class Status(Part):
    """What is observed."""

    observed_generation: int | None = None
    """Generation of the spec that was processed last."""
    url: Annotated[str, text(512)] | None = None
    """Address of the gateway's REST API inside the cluster."""
    conditions: Annotated[tuple[Condition, ...], bounded(16), keyed_by("type")] | None = None
    """Judgements about the service; Ready sums them up."""
    inference: ComponentStatus | None = None
    """What runs of the Python servers."""
    gateway: ComponentStatus | None = None
    """What runs of the gateways."""
    capabilities: CapabilitiesStatus | None = None
    """What the operator found the cluster able to do."""
    summary: Summary | None = None
    """Texts for the columns of `kubectl get`."""

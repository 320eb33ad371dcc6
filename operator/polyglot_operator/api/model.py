"""The PolyglotService: what users write. The CRD, its reference and the loop's view of a service come from here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from polyglot_operator.api.base import (
    SET,
    ObjectName,
    Part,
    Rule,
    bounded,
    int_or_string,
    keyed_by,
    matching,
    text,
    whole,
)
from polyglot_operator.api.names import MAX_SERVICE_NAME, MAX_WORKERS
from polyglot_operator.api.status import Status
from polyglot_operator.api.workload import LabelValue, Workload

_INSIDE_VOLUME = Rule(
    "!self.startsWith('/') && !self.split('/').exists(part, part == '..')",
    lambda path: not path.startswith("/") and ".." not in path.split("/"),
    "path must be relative to the volume and hold no '..', such as models/digits",
)
FolderPath = Annotated[str, text(512), _INSIDE_VOLUME]


class ConfigMapSource(Part):
    """A model in a ConfigMap: its keys are the files. By convention it never changes: a new version gets a new name."""

    name: ObjectName
    """Name of the ConfigMap in the service's namespace."""


class PersistentVolumeClaimSource(Part):
    """A model on a volume, mounted read-only."""

    claim_name: ObjectName
    """Name of the PersistentVolumeClaim in the service's namespace."""
    path: FolderPath | None = None
    """Folder of the model on the volume; absent means the volume's root."""


class ImageSource(Part):
    """A model in an OCI image, mounted read-only as a volume."""

    reference: Annotated[
        str,
        text(512),
        matching(
            r"^[A-Za-z0-9][-A-Za-z0-9._/:@]*$",
            "reference must be an image reference, such as registry.example/models/digits:1",
        ),
    ]
    """Reference of the image."""
    path: FolderPath | None = None
    """Folder of the model in the image; absent means the image's root."""


class ModelSource(Part):
    """Where a model's files come from; exactly one."""

    config_map: ConfigMapSource | None = None
    """A ConfigMap, for models up to 1 MiB."""
    persistent_volume_claim: PersistentVolumeClaimSource | None = None
    """A volume."""
    image: ImageSource | None = None
    """An OCI image."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.configMap), has(self.persistentVolumeClaim), has(self.image)].exists_one(set, set)",
            lambda s: [s.config_map, s.persistent_volume_claim, s.image].count(None) == 2,
            "source must have exactly one of configMap, persistentVolumeClaim and image",
        ),
    )


class Batching(Part):
    """Requests of several callers answered by one run of the model. Nobody waits while an inference pod is idle."""

    max_size: Annotated[int, whole(2, 1024)] = 32
    """Most rows in a batch."""
    max_delay: Annotated[
        str,
        text(6),
        matching(
            r"^((0|[1-9][0-9]{0,2}|1000)ms|[01]s)$",
            "maxDelay must be from 0ms to 1s, in whole milliseconds, such as 5ms",
        ),
    ] = "0ms"
    """Bounds how long a free pod waits for more after a batch of several; 0ms: by the time of a batch alone."""


class ServedModel(Part):
    """A model: a folder with model.onnx, or with model.py that holds `class Model`. Its version is 1."""

    name: Annotated[
        str,
        text(63),
        matching(
            r"^[A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?$",
            "name must start and end with a letter or digit and hold letters, digits, '-', '_' and '.'",
        ),
    ]
    """Name by which clients call the model."""
    format: Literal["ONNX", "Python"]
    """ONNX runs model.onnx by ONNX Runtime; Python runs the class Model of model.py."""
    source: ModelSource
    """Where the files come from."""
    batching: Batching | None = None
    """Run requests of several callers together; absent means that each runs alone. The model must have -1, the rows, as
    the first dimension of every input and output."""


class Accelerator(Part):
    """Devices that each inference pod gets."""

    resource_name: Annotated[
        str,
        text(253),
        matching(
            r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
            "resourceName must be an extended resource DOMAIN/NAME, such as nvidia.com/gpu or nvidia.com/mig-1g.10gb",
        ),
        Rule(
            "!self.startsWith('kubernetes.io/') && !self.contains('.kubernetes.io/') && !self.startsWith('requests.')",
            lambda name: not name.startswith(("kubernetes.io/", "requests.")) and ".kubernetes.io/" not in name,
            "resourceName must not be Kubernetes' own; name the device plugin's resource, such as nvidia.com/gpu",
        ),
    ] = "nvidia.com/gpu"
    """The extended resource that a device plugin offers. Pods tolerate its taint."""
    count: Annotated[int, whole(1, 64)] = 1
    """Devices for each pod."""
    products: Annotated[tuple[LabelValue, ...], bounded(16), SET] | None = None
    """Products that will do, as in the node label nvidia.com/gpu.product; absent means any."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.products) || self.resourceName.startsWith('nvidia.com/')",
            lambda a: a.products is None or a.resource_name.startswith("nvidia.com/"),
            "products works with resources of nvidia.com/ only; remove products, or use scheduling.nodeSelector",
        ),
    )


class Inference(Workload):
    """The Python servers that run the models."""

    accelerator: Accelerator | None = None
    """Devices for each pod. A rolling update then replaces pods in place, because a full node has no spare device:
    with one replica that is a short downtime."""
    workers: Annotated[int, whole(1, MAX_WORKERS)] = 1
    """Server processes in each pod. Each loads every model itself, into memory and devices of the pod, and has a port
    of its own; calls go to the one with fewest waiting. More than one pays where a model's Python code keeps its
    process busy."""


class NodePorts(Part):
    """Ports that every node publishes."""

    rest: Annotated[int, whole(1, 65535)] | None = None
    """Node port of the REST API; absent means that the cluster chooses."""
    grpc: Annotated[int, whole(1, 65535)] | None = None
    """Node port of the gRPC API; absent means that the cluster chooses."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.rest) || !has(self.grpc) || self.rest != self.grpc",
            lambda n: n.rest is None or n.rest != n.grpc,
            "nodePorts.rest and nodePorts.grpc must differ",
        ),
    )


class GatewayService(Part):
    """How clients reach the gateway."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    """Type of the Service. Callers from outside the mesh need mesh.clients Any."""
    node_ports: NodePorts | None = None
    """Fixed ports on every node."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.nodePorts) || self.type != 'ClusterIP'",
            lambda s: s.node_ports is None or s.type != "ClusterIP",
            "nodePorts needs service.type NodePort or LoadBalancer; set type, or remove nodePorts",
        ),
    )


class Gateway(Workload):
    """The Go gateways that speak REST and gRPC to clients and balance over the inference pods."""

    service: GatewayService = GatewayService()
    """How clients reach the gateway."""
    administration: Literal["ReadOnly", "Full"] = "ReadOnly"
    """What clients may do besides inference: ReadOnly lets them read configuration, statistics, repository, trace and
    log settings; Full also lets every caller load and unload models and change settings of the running pods. What is
    changed that way lasts until a pod ends."""


class Mesh(Part):
    """Mutual TLS between the components, and who may call."""

    mode: Literal["Auto", "Istio", "None"] = "Auto"
    """Istio puts a sidecar into every pod and requires Istio; None runs plain. Auto chooses once, when the service is
    created, by whether the cluster has Istio, and keeps to it."""
    clients: Literal["Any", "MeshOnly"] = "Any"
    """Any lets clients call the gateway in plaintext or by mutual TLS; MeshOnly by mutual TLS of the mesh only, which
    refuses NodePorts and load balancers too."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.clients != 'MeshOnly' || self.mode != 'None'",
            lambda m: m.clients != "MeshOnly" or m.mode != "None",
            "mesh.clients MeshOnly needs a mesh; set mesh.mode to Istio or Auto, or mesh.clients to Any",
        ),
    )


_PERCENT = "samplingPercent must be from 0 to 100 with at most two decimals: a whole number, or a string such as '0.5'"


def _percentage(value: object) -> Decimal:
    rule = matching(r"^(100(\.0{1,2})?|[0-9]{1,2}(\.[0-9]{1,2})?)$", "")
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal) or not rule.holds(str(value)):
        raise PydanticCustomError("percentage", _PERCENT)
    return Decimal(str(value))


Percentage = Annotated[
    Decimal,
    BeforeValidator(_percentage),
    int_or_string(
        maxLength=6,
        **{
            "x-kubernetes-validations": [
                {
                    "rule": r"type(self) == int ? int(self) >= 0 && int(self) <= 100 : "
                    r"string(self).matches(r'^(100(\.0{1,2})?|[0-9]{1,2}(\.[0-9]{1,2})?)$')",
                    "message": _PERCENT,
                }
            ]
        },
    ),
]


class Tracing(Part):
    """Where spans go and how many."""

    endpoint: Annotated[
        str,
        text(512),
        matching(
            r"^https?://([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}/?$",
            "endpoint must be http://HOST:PORT or https://HOST:PORT of an OTLP gRPC receiver, "
            "such as http://jaeger.observability.svc:4317",
        ),
    ]
    """OTLP gRPC receiver of the components' spans. Sidecars send theirs to the mesh's provider `otel`."""
    sampling_percent: Percentage = Decimal(1)
    """Share of traces that start here and are kept, in percent with at most two decimals: a whole number or a string
    such as '0.5'. A caller's own sampling decision is honoured."""


class Telemetry(Part):
    """What the service tells about itself besides its metrics."""

    tracing: Tracing | None = None
    """OpenTelemetry traces; absent means none."""


class Spec(Part):
    """What is wanted."""

    models: Annotated[tuple[ServedModel, ...], bounded(16, 1), keyed_by("name")]
    """Models that every inference pod serves."""
    inference: Inference = Inference()
    """The Python servers that run the models."""
    gateway: Gateway = Gateway()
    """The Go gateways in front."""
    mesh: Mesh = Mesh()
    """Mutual TLS between the components, and who may call."""
    telemetry: Telemetry | None = None
    """Traces."""


_DNS_1035 = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"


class Metadata(Part):
    """The part of the object's metadata that the operator reads."""

    name: str
    """Name of the service."""
    namespace: str = "default"
    """Namespace of the service."""
    uid: str = ""
    """Identity of this object, as opposed to a later one of the same name."""
    generation: int = 0
    """Counts changes of the spec."""
    deletion_timestamp: str | None = None
    """When deletion was asked for."""


class PolyglotService(Part):
    """An inference service: Python model servers behind Go gateways, with a mutual-TLS mesh, autoscaling and traces."""

    metadata: Metadata
    """Name and namespace. The name is a DNS label of at most 40 characters."""
    spec: Spec
    """What is wanted."""
    status: Status = Status()
    """What is observed; written by the operator."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"size(self.metadata.name) <= {MAX_SERVICE_NAME} && self.metadata.name.matches(r'{_DNS_1035}')",
            lambda s: len(s.metadata.name) <= MAX_SERVICE_NAME and re.fullmatch(_DNS_1035, s.metadata.name) is not None,
            f"metadata.name must have at most {MAX_SERVICE_NAME} characters, start with a letter, and hold lower-case "
            "letters, digits and '-'; choose another name",
        ),
    )


class InvalidService(ValueError):  # noqa: N818  # reads as the condition's reason does
    """A body is no valid PolyglotService; `errors` holds one line of `path: what to do` each."""

    def __init__(self, errors: tuple[str, ...]) -> None:
        super().__init__("; ".join(errors))
        self.errors = errors


def parse(body: Mapping[str, Any]) -> PolyglotService:
    """Return the service that a custom resource's body declares, with defaults filled in; raise `InvalidService`."""
    try:
        return PolyglotService.model_validate(dict(body))
    except ValidationError as error:
        problems = error.errors(include_url=False)
        raise InvalidService(
            tuple(f"{_path(p['loc'])}: {p['msg']}" for p in problems if _is_root(p, problems))
        ) from error


def _is_root(problem: ErrorDetails, problems: list[ErrorDetails]) -> bool:
    """Whether a problem is not merely that a list is too short once its bad items are dropped."""
    where = problem["loc"]
    deeper = any(other["loc"][: len(where)] == where and other["loc"] != where for other in problems)
    return not (problem["type"] == "too_short" and deeper)


def _path(location: tuple[int | str, ...]) -> str:
    words = [f"[{word}]" if isinstance(word, int) else f".{word}" for word in location]
    return "".join(words).lstrip(".") or "object"

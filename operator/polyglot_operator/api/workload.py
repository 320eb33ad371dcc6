"""What inference and gateway have in common: size, resources, environment, placement, disruption."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from polyglot_operator.api import quantity
from polyglot_operator.api.base import (
    ATOMIC,
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

_KEY = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
_QUANTITY = "must be a quantity of at least 0, such as 500m, 2 or 1Gi"


def _canonical(value: object) -> str:
    try:
        found = quantity.canonical(value)
    except quantity.QuantityError as error:
        raise PydanticCustomError("quantity", _QUANTITY) from error
    if found.startswith("-"):
        raise PydanticCustomError("quantity", _QUANTITY)
    return found


Quantity = Annotated[
    str,
    BeforeValidator(_canonical),
    int_or_string(
        maxLength=32,
        **{
            "x-kubernetes-validations": [
                {
                    "rule": "type(self) == int ? int(self) >= 0 : isQuantity(string(self)) && "
                    "quantity(string(self)).compareTo(quantity('0')) >= 0",
                    "message": _QUANTITY,
                }
            ]
        },
    ),
]
LabelKey = Annotated[str, text(316), matching(_KEY, "must be a label key, such as zone or example.com/zone")]
LabelValue = Annotated[
    str, text(63, 0), matching(_VALUE, "must be a label value: at most 63 letters, digits, '-', '_' and '.'")
]


def _only_compute(name: str) -> Rule:
    known = {"cpu", "memory", "ephemeral-storage"}
    return Rule(
        f"!has(self.{name}) || self.{name}.all(k, k in ['cpu', 'memory', 'ephemeral-storage'])",
        lambda resources: set(getattr(resources, name) or ()) <= known,
        f"resources.{name} takes cpu, memory and ephemeral-storage; accelerators go to inference.accelerator",
    )


class Resources(Part):
    """Compute resources of one container."""

    requests: Annotated[dict[str, Quantity], bounded(3)] | None = None
    """What the scheduler reserves: cpu, memory, ephemeral-storage."""
    limits: Annotated[dict[str, Quantity], bounded(3)] | None = None
    """What the container may use at most: cpu, memory, ephemeral-storage."""

    rules: ClassVar[tuple[Rule, ...]] = (
        _only_compute("requests"),
        _only_compute("limits"),
        Rule(
            "!has(self.requests) || !has(self.limits) || self.requests.all(k, !(k in self.limits) || "
            "!isQuantity(string(self.requests[k])) || !isQuantity(string(self.limits[k])) || "
            "quantity(string(self.requests[k])).compareTo(quantity(string(self.limits[k]))) <= 0)",
            lambda r: all(
                quantity.value(asked) <= quantity.value((r.limits or {}).get(name, asked))
                for name, asked in (r.requests or {}).items()
            ),
            "resources.requests must not exceed resources.limits; lower the request or raise the limit",
        ),
    )


class KeySelector(Part):
    """One key of a Secret or ConfigMap in the service's namespace."""

    name: ObjectName
    """Name of the object."""
    key: Annotated[str, text(253), matching(r"^[-._A-Za-z0-9]+$", "must be a key: letters, digits, '-', '_' and '.'")]
    """The key whose value is taken."""


class EnvSource(Part):
    """Where the value of an environment variable comes from."""

    secret_key_ref: KeySelector | None = None
    """A key of a Secret."""
    config_map_key_ref: KeySelector | None = None
    """A key of a ConfigMap."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.secretKeyRef) != has(self.configMapKeyRef)",
            lambda s: (s.secret_key_ref is None) != (s.config_map_key_ref is None),
            "set exactly one of valueFrom.secretKeyRef and valueFrom.configMapKeyRef",
        ),
    )


class EnvVar(Part):
    """An environment variable of the container."""

    name: Annotated[
        str,
        text(253),
        matching(
            r"^[A-Za-z_][-A-Za-z0-9_.]*$", "must start with a letter or '_' and hold letters, digits, '-', '_' and '.'"
        ),
    ]
    """Name of the variable. One that the operator also sets, such as OTEL_SERVICE_NAME, gets this value."""
    value: Annotated[str, text(4096, 0)] | None = None
    """The value itself; $(NAME) is replaced by an earlier variable."""
    value_from: EnvSource | None = None
    """A key of a Secret or ConfigMap to take the value from."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.value) != has(self.valueFrom)",
            lambda e: (e.value is None) != (e.value_from is None),
            "set exactly one of value and valueFrom for each env entry",
        ),
        Rule(
            "self.name != 'NVIDIA_VISIBLE_DEVICES'",
            lambda e: e.name != "NVIDIA_VISIBLE_DEVICES",
            "env must not set NVIDIA_VISIBLE_DEVICES: the device plugin does; ask for devices by inference.accelerator",
        ),
    )


class Metric(Part):
    """A target of the autoscaler for the component's own container; sidecars don't count."""

    type: Literal["CPU", "Memory"]
    """The resource that is measured."""
    average_utilization: Annotated[int, whole(1, 1000)] | None = None
    """Target use in percent of the container's request."""
    average_value: Quantity | None = None
    """Target use per pod as a quantity, such as 500m or 1Gi."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.averageUtilization) != has(self.averageValue)",
            lambda m: (m.average_utilization is None) != (m.average_value is None),
            "set exactly one of averageUtilization and averageValue for each metric",
        ),
        Rule(
            "!has(self.averageValue) || !isQuantity(string(self.averageValue)) || "
            "quantity(string(self.averageValue)).compareTo(quantity('0')) > 0",
            lambda m: m.average_value is None or quantity.value(m.average_value) > 0,
            "averageValue must be above 0, such as 500m for CPU or 1Gi for Memory",
        ),
    )


class Autoscaling(Part):
    """Bounds and targets of a HorizontalPodAutoscaler."""

    min_replicas: Annotated[int, whole(1, 1000)] = 1
    """Fewest replicas."""
    max_replicas: Annotated[int, whole(1, 1000)]
    """Most replicas."""
    metrics: Annotated[tuple[Metric, ...], bounded(2, 1), keyed_by("type")]
    """What to measure; the metric that asks for most replicas wins."""
    scale_down_stabilization_seconds: Annotated[int, whole(0, 3600)] = 300
    """How long use must stay low before replicas are taken away. Choose at least the time a model takes to load."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.minReplicas <= self.maxReplicas",
            lambda a: a.min_replicas <= a.max_replicas,
            "autoscaling.minReplicas must not exceed autoscaling.maxReplicas; lower one or raise the other",
        ),
    )


class Toleration(Part):
    """A taint that the component's pods accept."""

    key: LabelKey | None = None
    """Key of the taint; absent, with operator Exists, stands for every key."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """Whether the taint's value must be equal or is of no matter."""
    value: LabelValue | None = None
    """Value of the taint."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint; absent stands for every effect."""
    toleration_seconds: Annotated[int, whole(0, 86400)] | None = None
    """How long a pod stays after a NoExecute taint appears; absent means for ever."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.key) || self.operator == 'Exists'",
            lambda t: t.key is not None or t.operator == "Exists",
            "a toleration without key needs operator Exists; set key or operator",
        ),
        Rule(
            "!has(self.value) || self.operator == 'Equal'",
            lambda t: t.value is None or t.operator == "Equal",
            "a toleration with value needs operator Equal; remove value or set operator",
        ),
        Rule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            lambda t: t.toleration_seconds is None or t.effect == "NoExecute",
            "tolerationSeconds needs effect NoExecute; set effect or remove tolerationSeconds",
        ),
    )


class Scheduling(Part):
    """Where the component's pods may run."""

    node_selector: Annotated[dict[str, LabelValue], bounded(16)] | None = None
    """Labels that a node must have."""
    tolerations: Annotated[tuple[Toleration, ...], bounded(16), ATOMIC] | None = None
    """Taints that are accepted besides those that an accelerator needs."""
    priority_class_name: ObjectName | None = None
    """Name of the pods' PriorityClass."""
    runtime_class_name: ObjectName | None = None
    """Name of the pods' RuntimeClass, such as nvidia."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"!has(self.nodeSelector) || self.nodeSelector.all(k, size(k) <= 316 && k.matches(r'{_KEY}'))",
            lambda s: all(_is_label_key(key) for key in s.node_selector or ()),
            "keys of nodeSelector must be label keys, such as zone or example.com/zone",
        ),
    )


def _is_label_key(key: str) -> bool:
    return len(key) <= 316 and matching(_KEY, "").holds(key)


class Disruption(Part):
    """How much of the component may be away at once, by node drains; as much may be missing of an Available service."""

    max_unavailable: Annotated[int, whole(1, 1000)] = 1
    """Most pods that may be away by voluntary disruption; 0 would make every node drain hang."""


def _needs_request(metric: str, resource: str) -> Rule:
    return Rule(
        f"!has(self.autoscaling) || "
        f"!self.autoscaling.metrics.exists(m, m.type == '{metric}' && has(m.averageUtilization)) || "
        f"(has(self.resources) && has(self.resources.requests) && '{resource}' in self.resources.requests)",
        lambda workload: (
            not workload.targets_utilization(metric)
            or resource in ((workload.resources and workload.resources.requests) or {})
        ),
        f"a {metric} averageUtilization needs resources.requests.{resource}; set it, or use averageValue",
    )


class Workload(Part):
    """A component: pods of one image behind one Service."""

    image: (
        Annotated[
            str,
            text(512),
            matching(
                r"^[A-Za-z0-9][-A-Za-z0-9._/:@]*$",
                "must be an image reference, such as registry.example/team/image:tag",
            ),
        ]
        | None
    ) = None
    """Image of the container. Without it the operator's own applies; status tells which that is."""
    replicas: Annotated[int, whole(1, 1000)] | None = None
    """Number of pods. At most one of replicas and autoscaling; with neither there is one pod."""
    autoscaling: Autoscaling | None = None
    """Let load decide the number of pods."""
    resources: Resources | None = None
    """Compute resources of the container."""
    env: Annotated[tuple[EnvVar, ...], bounded(64), keyed_by("name")] | None = None
    """Environment variables besides those that the operator sets."""
    scheduling: Scheduling | None = None
    """Where the pods may run."""
    disruption: Disruption = Disruption()
    """How many pods may be away at once."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!(has(self.replicas) && has(self.autoscaling))",
            lambda w: w.replicas is None or w.autoscaling is None,
            "set at most one of replicas and autoscaling; remove replicas to let the autoscaler decide",
        ),
        _needs_request("CPU", "cpu"),
        _needs_request("Memory", "memory"),
    )

    @property
    def floor(self) -> int:
        """Fewest replicas that the spec promises."""
        return self.autoscaling.min_replicas if self.autoscaling else self.replicas or 1

    def targets_utilization(self, metric: str) -> bool:
        """Whether the autoscaler measures a resource in percent of its request."""
        metrics = self.autoscaling.metrics if self.autoscaling else ()
        return any(m.type == metric and m.average_utilization is not None for m in metrics)

"""Where pods may run: the spec's scheduling, what an accelerator needs, and a spread over nodes and zones."""

from __future__ import annotations

from polyglot_operator.api import names
from polyglot_operator.api.model import Accelerator
from polyglot_operator.api.names import Component
from polyglot_operator.api.workload import Scheduling, Toleration
from polyglot_operator.build.subject import Object, Subject, present

PRODUCT_LABEL = "nvidia.com/gpu.product"
"""Label by which NVIDIA's feature discovery names the product of a node's devices."""

_NVIDIA = "nvidia.com/"


def build(subject: Subject, component: Component) -> Object:
    """Return the fields of the pod's spec that decide on its node."""
    scheduling = subject.workload(component).scheduling or Scheduling()
    devices = accelerator(subject, component)
    return present(
        nodeSelector=scheduling.node_selector,
        tolerations=tolerations(scheduling, devices),
        affinity=_product_affinity(devices),
        priorityClassName=scheduling.priority_class_name,
        runtimeClassName=scheduling.runtime_class_name,
        topologySpreadConstraints=[
            _spread(subject, component, key) for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
        ],
    )


def accelerator(subject: Subject, component: Component) -> Accelerator | None:
    """Return the devices that a component's pods get; the gateway's never get any."""
    return subject.service.spec.inference.accelerator if component is Component.INFERENCE else None


def tolerations(scheduling: Scheduling, devices: Accelerator | None) -> list[Object]:
    """Return the taints that a component's pods accept: the spec's, and those of the nodes with its devices."""
    wanted = [_toleration(toleration) for toleration in scheduling.tolerations or ()]
    if devices is None:
        return wanted
    # Device nodes are tainted with the resource's name; NVIDIA's with nvidia.com/gpu, whatever slice of it is offered.
    key = "nvidia.com/gpu" if devices.resource_name.startswith(_NVIDIA) else devices.resource_name
    needed = {"key": key, "operator": "Exists", "effect": "NoSchedule"}
    return wanted if needed in wanted else [*wanted, needed]


def _toleration(wanted: Toleration) -> Object:
    return present(
        key=wanted.key,
        operator=wanted.operator,
        value=wanted.value or None,
        effect=wanted.effect,
        tolerationSeconds=wanted.toleration_seconds,
    )


def _product_affinity(devices: Accelerator | None) -> Object | None:
    if devices is None or not devices.products:
        return None
    # Sorted, because a set has no order and a new order must not roll the pods.
    expression = {"key": PRODUCT_LABEL, "operator": "In", "values": sorted(devices.products)}
    terms = [{"matchExpressions": [expression]}]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def _spread(subject: Subject, component: Component, topology: str) -> Object:
    return {
        "maxSkew": 1,
        "topologyKey": topology,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": names.selector(subject.name, component)},
        "matchLabelKeys": ["pod-template-hash"],
    }

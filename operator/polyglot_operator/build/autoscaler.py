"""HorizontalPodAutoscaler: load decides the number of pods."""

from __future__ import annotations

from polyglot_operator.api import names
from polyglot_operator.api.names import Component
from polyglot_operator.api.workload import Autoscaling, Metric
from polyglot_operator.build.subject import Object, Subject, present


def build(subject: Subject, component: Component) -> list[Object]:
    """Return the component's autoscaler, or nothing when its number of pods is fixed."""
    wanted = subject.workload(component).autoscaling
    if wanted is None:
        return []
    name = names.child(subject.name, component)
    return [
        subject.child(
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            component,
            spec={
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
                "minReplicas": wanted.min_replicas,
                "maxReplicas": wanted.max_replicas,
                "metrics": [_metric(m, component) for m in sorted(wanted.metrics, key=lambda metric: metric.type)],
                "behavior": _behavior(wanted),
            },
        )
    ]


def _metric(metric: Metric, component: Component) -> Object:
    """Measure the component's own container, so that the sidecar's use and missing requests don't count."""
    target = present(
        type="Utilization" if metric.average_utilization is not None else "AverageValue",
        averageUtilization=metric.average_utilization,
        averageValue=metric.average_value,
    )
    return {
        "type": "ContainerResource",
        "containerResource": {"name": metric.type.lower(), "container": component.value, "target": target},
    }


def _behavior(wanted: Autoscaling) -> Object:
    """Grow at once, by doubling or four pods; shrink by the spec's window."""
    double, four = _policy("Percent", 100), _policy("Pods", 4)
    return {
        "scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [four, double]},
        "scaleDown": {
            "stabilizationWindowSeconds": wanted.scale_down_stabilization_seconds,
            "selectPolicy": "Max",
            "policies": [double],
        },
    }


def _policy(kind: str, value: int) -> Object:
    return {"type": kind, "value": value, "periodSeconds": 15}

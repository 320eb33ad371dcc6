"""Deployment: keeps a component's pods running and replaces them in order."""

from __future__ import annotations

from polyglot_operator.api import names
from polyglot_operator.api.names import Component
from polyglot_operator.build import lifecycle, placement, pod
from polyglot_operator.build.subject import Object, Subject


def build(subject: Subject, component: Component) -> Object:
    """Return the component's Deployment; the number of pods is left to the autoscaler where there is one."""
    workload = subject.workload(component)
    deployment = subject.child(
        "apps/v1",
        "Deployment",
        component,
        spec={
            **({} if workload.autoscaling else {"replicas": workload.floor}),
            "selector": {"matchLabels": names.selector(subject.name, component)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": _pace(subject, component)},
            "revisionHistoryLimit": 3,
            "progressDeadlineSeconds": lifecycle.PROGRESS_DEADLINE_SECONDS,
            "template": pod.template(subject, component),
        },
    )
    deployment["metadata"]["annotations"] = {
        names.MESH_ANNOTATION: subject.facts.mesh.mode,
        names.TEMPLATE_REVISION_ANNOTATION: str(subject.facts.template_revision),
    }
    return deployment


def _pace(subject: Subject, component: Component) -> Object:
    """Return how a rolling update proceeds: with accelerators in place, since a full node has none to spare.

    Pods that find no device are unavailable whatever is done; counted against the update they would block it for ever.
    """
    if placement.accelerator(subject, component):
        return {"maxSurge": 0, "maxUnavailable": 1 + subject.facts.short_of_devices}
    return {"maxSurge": 1, "maxUnavailable": 0}

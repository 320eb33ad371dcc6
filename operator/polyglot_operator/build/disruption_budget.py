"""PodDisruptionBudget: how many pods a node drain may take at once."""

from polyglot_operator.api import names
from polyglot_operator.api.names import Component
from polyglot_operator.build.subject import Object, Subject


def build(subject: Subject, component: Component) -> Object:
    """Return the component's budget; pods that were never ready don't hold up a drain."""
    return subject.child(
        "policy/v1",
        "PodDisruptionBudget",
        component,
        spec={
            "selector": {"matchLabels": names.selector(subject.name, component)},
            "maxUnavailable": subject.workload(component).disruption.max_unavailable,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    )

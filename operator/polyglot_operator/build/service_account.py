"""An identity of its own for each component, without a token: the mesh knows pods by it, the API server need not."""

from polyglot_operator.api.names import Component
from polyglot_operator.build.subject import Object, Subject


def build(subject: Subject, component: Component) -> Object:
    """Return the component's ServiceAccount."""
    return subject.child("v1", "ServiceAccount", component, automountServiceAccountToken=False)

"""PeerAuthentication: whether a component's sidecars accept plaintext."""

from polyglot_operator.api import names
from polyglot_operator.api.names import Component
from polyglot_operator.build.facts import MeshPhase
from polyglot_operator.build.subject import Object, Subject


def build(subject: Subject, component: Component) -> Object:
    """Return the component's PeerAuthentication: strict for inference, for the gateway only where clients are."""
    only_mesh = component is Component.INFERENCE or subject.service.spec.mesh.clients == "MeshOnly"
    strict = only_mesh and subject.facts.mesh is MeshPhase.STRICT
    return subject.child(
        "security.istio.io/v1",
        "PeerAuthentication",
        component,
        spec={
            "selector": {"matchLabels": names.selector(subject.name, component)},
            "mtls": {"mode": "STRICT" if strict else "PERMISSIVE"},
        },
    )

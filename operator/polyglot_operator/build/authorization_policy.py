"""AuthorizationPolicy: who may call inference, and what."""

from polyglot_operator.api import names
from polyglot_operator.api.names import Component
from polyglot_operator.build.subject import Object, Subject


def build(subject: Subject) -> Object:
    """Return the policy that admits the gateway's identity to the inference protocol and its health, and nobody else.

    Probes and metrics pass: the sidecar's agent serves them at port 15020, outside of the policy.
    """
    gateway = names.principal(subject.name, Component.GATEWAY, subject.namespace)
    operation = {
        "ports": [str(port) for port in subject.worker_ports.values()],
        "methods": ["POST"],
        "paths": ["/inference.GRPCInferenceService/*", "/polyglot.v1.Lane/*", "/grpc.health.v1.Health/*"],
    }
    return subject.child(
        "security.istio.io/v1",
        "AuthorizationPolicy",
        Component.INFERENCE,
        spec={
            "selector": {"matchLabels": names.selector(subject.name, Component.INFERENCE)},
            "action": "ALLOW",
            "rules": [{"from": [{"source": {"principals": [gateway]}}], "to": [{"operation": operation}]}],
        },
    )

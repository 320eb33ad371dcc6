"""VirtualService: the mesh never repeats a call to inference."""

from polyglot_operator.api.names import Component, Port
from polyglot_operator.build.subject import Object, Subject


def build(subject: Subject) -> Object:
    """Return the route without retries: by default a sidecar runs a call that failed twice more."""
    host = subject.host(Component.INFERENCE)
    destination = {"host": host, "port": {"number": Port.INFERENCE}}
    return subject.child(
        "networking.istio.io/v1",
        "VirtualService",
        Component.INFERENCE,
        spec={"hosts": [host], "http": [{"route": [{"destination": destination}], "retries": {"attempts": 0}}]},
    )

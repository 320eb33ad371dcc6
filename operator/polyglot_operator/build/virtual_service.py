"""VirtualService: the mesh never repeats a call to inference."""

from polyglot_operator.api.names import Component
from polyglot_operator.build.subject import Object, Subject


def build(subject: Subject) -> Object:
    """Return the route without retries: by default a sidecar runs a call that failed twice more.

    The destination names no port: a call goes on to the port that it came to.
    """
    host = subject.host(Component.INFERENCE)
    return subject.child(
        "networking.istio.io/v1",
        "VirtualService",
        Component.INFERENCE,
        spec={"hosts": [host], "http": [{"route": [{"destination": {"host": host}}], "retries": {"attempts": 0}}]},
    )

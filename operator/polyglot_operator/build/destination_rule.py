"""DestinationRule: how the gateway's sidecar connects to inference pods."""

from polyglot_operator.api.names import Component
from polyglot_operator.build.subject import Object, Subject


def build(subject: Subject) -> Object:
    """Return the rule that calls to inference use mutual TLS or plaintext, and give up soon on pods that don't answer.

    Plaintext is stated as well: without a rule a sidecar decides for all pods of a headless Service at once, and goes
    on with TLS when a pod without a sidecar joins them
    (https://github.com/istio/istio/blob/1.31.0/pilot/pkg/model/push_context.go, BestEffortInferServiceMTLSMode).

    The pools only stop a runaway: the gateway decides how many calls wait where. There is no outlier detection, because
    it doesn't reach a headless Service; the gateway ejects pods itself.
    """
    return subject.child(
        "networking.istio.io/v1",
        "DestinationRule",
        Component.INFERENCE,
        spec={
            "host": subject.host(Component.INFERENCE),
            "trafficPolicy": {
                "tls": {"mode": "ISTIO_MUTUAL" if subject.facts.mesh.mutual_tls else "DISABLE"},
                "connectionPool": {
                    "tcp": {
                        "connectTimeout": "500ms",
                        "maxConnections": 4096,
                        "tcpKeepalive": {"time": "30s", "interval": "10s", "probes": 3},
                    },
                    "http": {"http1MaxPendingRequests": 65536, "http2MaxRequests": 65536},
                },
            },
        },
    )

"""Services: headless for inference, whose pods the gateway picks itself; a stable address for the gateway.

Every port declares its protocol: a mesh that has to sniff it falls back to TCP under strict mutual TLS.
"""

from __future__ import annotations

from polyglot_operator.api import names
from polyglot_operator.api.names import Component, Port
from polyglot_operator.build.subject import Object, Subject, present


def inference(subject: Subject) -> Object:
    """Return the headless Service of the inference pods that are ready."""
    return subject.child(
        "v1",
        "Service",
        Component.INFERENCE,
        spec={
            "type": "ClusterIP",
            "clusterIP": "None",
            "publishNotReadyAddresses": False,
            "selector": names.selector(subject.name, Component.INFERENCE),
            "ports": [_port(name, number, "grpc") for name, number in subject.worker_ports.items()],
        },
    )


def gateway(subject: Subject) -> Object:
    """Return the Service that clients call; metrics and health are not on it."""
    wanted = subject.service.spec.gateway.service
    rest = wanted.node_ports.rest if wanted.node_ports else None
    grpc = wanted.node_ports.grpc if wanted.node_ports else None
    return subject.child(
        "v1",
        "Service",
        Component.GATEWAY,
        spec={
            "type": wanted.type,
            "publishNotReadyAddresses": False,
            "selector": names.selector(subject.name, Component.GATEWAY),
            "ports": [_port("rest", Port.REST, "http", rest), _port("grpc", Port.GRPC, "grpc", grpc)],
        },
    )


def _port(name: str, number: int, protocol: str, node_port: int | None = None) -> Object:
    return present(name=name, port=number, targetPort=number, protocol="TCP", appProtocol=protocol, nodePort=node_port)

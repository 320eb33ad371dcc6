"""Names, labels and annotations of everything a service owns, and the way back from a child to its service."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from polyglot_operator.api.groups import GROUP

MAX_SERVICE_NAME: Final = 40
MAX_WORKERS: Final = 8
MANAGED_BY: Final = "polyglot-operator"
MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
SERVICE_LABEL: Final = f"{GROUP}/service"
COMPONENT_LABEL: Final = f"{GROUP}/component"
SIDECAR_LABEL: Final = "sidecar.istio.io/inject"
# How Istio names a sidecar in traces and in metrics (istio/istio, pkg/kube/labels).
TRACED_NAME_LABEL: Final = "app"
CANONICAL_NAME_LABEL: Final = "service.istio.io/canonical-name"
SIDECAR_CONTAINER: Final = "istio-proxy"

# On the pod template: a change of configuration rolls the pods.
CONFIG_HASH_ANNOTATION: Final = f"{GROUP}/config-hash"
# On the Deployment: what was decided once and must not change unasked.
MESH_ANNOTATION: Final = f"{GROUP}/mesh"
TEMPLATE_REVISION_ANNOTATION: Final = f"{GROUP}/template-revision"

# Server-side filter of every child watch; ReplicaSets and pods inherit the labels from the pod template.
CHILD_SELECTOR: Final = f"{MANAGED_BY_LABEL}={MANAGED_BY}"

_TELEMETRY: Final = "telemetry"
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_MAX_DNS_LABEL = 63


class Component(StrEnum):
    """The two workloads of a service; also the name of their containers."""

    INFERENCE = "inference"
    GATEWAY = "gateway"


class Port:
    """Port numbers of both workloads."""

    REST: Final = 8000
    GRPC: Final = 8001
    ADMIN: Final = 8002
    INFERENCE: Final = 9000
    METRICS: Final = 9001


def worker_ports(workers: int) -> dict[str, int]:
    """Ports of the inference processes in a pod, by name: `grpc` 9000, `grpc-1` 9010, `grpc-2` 9020, and so on."""
    return {f"grpc-{i}" if i else "grpc": Port.INFERENCE + 10 * i for i in range(workers)}


def child(service: str, component: Component) -> str:
    """Name of every object that belongs to one component."""
    return f"{service}-{component}"


def telemetry(service: str) -> str:
    """Name of the mesh's Telemetry object, the only child that belongs to the whole service."""
    return f"{service}-{_TELEMETRY}"


def selector(service: str, component: Component) -> dict[str, str]:
    """Labels that select the pods of one component."""
    return {SERVICE_LABEL: service, COMPONENT_LABEL: component.value}


def service_labels(service: str) -> dict[str, str]:
    """Labels of a child that belongs to the whole service."""
    return {
        "app.kubernetes.io/name": "polyglot",
        "app.kubernetes.io/instance": service,
        MANAGED_BY_LABEL: MANAGED_BY,
        SERVICE_LABEL: service,
    }


def labels(service: str, component: Component) -> dict[str, str]:
    """Labels of a child, and of a pod, of one component."""
    return {
        **service_labels(service),
        "app.kubernetes.io/component": component.value,
        COMPONENT_LABEL: component.value,
    }


def service_of_pod(labels: Mapping[str, str]) -> str | None:
    """Name of the service that a pod or ReplicaSet is labelled for; None for one that is not ours."""
    return labels.get(SERVICE_LABEL) if labels.get(MANAGED_BY_LABEL) == MANAGED_BY else None


def service_of_child(name: str, labels: Mapping[str, str]) -> str | None:
    """Name of the service whose child has this name; None for an object that is not ours.

    Unlike a label, a name can't be edited: a child that is labelled for another service stays its service's.
    """
    service, _, part = name.rpartition("-")
    ours = labels.get(MANAGED_BY_LABEL) == MANAGED_BY and part in {*Component, _TELEMETRY}
    return service if ours else None


def component_of(child_labels: Mapping[str, str]) -> Component | None:
    """Component that a child or pod belongs to; None for a child of the whole service."""
    component = child_labels.get(COMPONENT_LABEL)
    return Component(component) if component in set(Component) else None


def host(service: str, component: Component, namespace: str, cluster_domain: str) -> str:
    """Fully qualified DNS name of a component's Service."""
    return f"{child(service, component)}.{namespace}.svc.{cluster_domain}"


def url(service: str, namespace: str, cluster_domain: str) -> str:
    """Address of the gateway's REST API inside the cluster."""
    return f"http://{host(service, Component.GATEWAY, namespace, cluster_domain)}:{Port.REST}"


def principal(service: str, component: Component, namespace: str) -> str:
    """Mesh identity of a component.

    `cluster.local` is Istio's alias of the mesh's own trust domain, whatever that is called
    (istio/istio, pilot/pkg/security/trustdomain), so this holds in every mesh.
    """
    return f"cluster.local/ns/{namespace}/sa/{child(service, component)}"


def model_volume(model: str) -> str:
    """Name of the volume that holds a model: a DNS label, unique for each model name."""
    readable = f"model-{model}"
    if _DNS_LABEL.fullmatch(model) and len(readable) <= _MAX_DNS_LABEL:
        return readable
    slug = re.sub(r"[^a-z0-9]+", "-", model.lower())[:40].strip("-")
    return f"model-{slug}-{hashlib.sha256(model.encode()).hexdigest()[:10]}"

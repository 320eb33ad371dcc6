"""Which kinds the operator reads and writes, and where the API server keeps them.

A static table instead of discovery: there are few kinds, and a kind that is missing here fails a test, not a customer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from polyglot_operator.api import groups


@dataclass(frozen=True, slots=True, order=True)
class Kind:
    """A namespaced kind and the name of its collection."""

    api_version: str
    name: str
    plural: str

    @property
    def group(self) -> str:
        """API group; empty for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        """Version inside the group."""
        return self.api_version.rpartition("/")[2]

    @property
    def is_mesh(self) -> bool:
        """Whether Istio serves the kind, so that it may be absent from a cluster."""
        return self.group.endswith(".istio.io")

    def collection(self, namespace: str | None) -> str:
        """Path of all objects in a namespace, or in all of them."""
        root = f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"
        return f"{root}/namespaces/{namespace}/{self.plural}" if namespace else f"{root}/{self.plural}"


SERVICE: Final = Kind(groups.API_VERSION, groups.KIND, groups.PLURAL)
DEPLOYMENT: Final = Kind("apps/v1", "Deployment", "deployments")
REPLICA_SET: Final = Kind("apps/v1", "ReplicaSet", "replicasets")
POD: Final = Kind("v1", "Pod", "pods")
CONFIG_MAP: Final = Kind("v1", "ConfigMap", "configmaps")
VOLUME_CLAIM: Final = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
NODE: Final = Kind("v1", "Node", "nodes")
EVENT: Final = Kind("events.k8s.io/v1", "Event", "events")
PEER_AUTHENTICATION: Final = Kind("security.istio.io/v1", "PeerAuthentication", "peerauthentications")
DESTINATION_RULE: Final = Kind("networking.istio.io/v1", "DestinationRule", "destinationrules")

# What a service may own, in the order in which it is applied: what pods need before the pods.
CHILDREN: Final = (
    Kind("v1", "ServiceAccount", "serviceaccounts"),
    CONFIG_MAP,
    Kind("v1", "Service", "services"),
    PEER_AUTHENTICATION,
    DESTINATION_RULE,
    Kind("networking.istio.io/v1", "VirtualService", "virtualservices"),
    Kind("security.istio.io/v1", "AuthorizationPolicy", "authorizationpolicies"),
    Kind("telemetry.istio.io/v1", "Telemetry", "telemetries"),
    DEPLOYMENT,
    Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
)
# What a spec may cease to ask for. The others a service has for as long as it lives, so nobody may delete them for it.
PRUNABLE: Final = frozenset(kind for kind in CHILDREN if kind.is_mesh or kind.name == "HorizontalPodAutoscaler")
WATCHED: Final = (*CHILDREN, REPLICA_SET, POD)
_BY_NAME: Final = {(kind.api_version, kind.name): kind for kind in (SERVICE, *WATCHED, VOLUME_CLAIM, NODE, EVENT)}


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """One object by kind, namespace and name."""

    kind: Kind
    namespace: str
    name: str

    @classmethod
    def of(cls, obj: Mapping[str, Any]) -> Ref:
        """Return the reference of an object that names its kind; raises KeyError for a kind not in the tables."""
        kind = _BY_NAME[obj["apiVersion"], obj["kind"]]
        return cls(kind, obj["metadata"]["namespace"], obj["metadata"]["name"])

    @property
    def path(self) -> str:
        """Path of the object."""
        return f"{self.kind.collection(self.namespace)}/{self.name}"

    def __str__(self) -> str:
        """Return `Kind name`, as messages to users have it."""
        return f"{self.kind.name} {self.name}"

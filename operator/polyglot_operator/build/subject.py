"""What every builder is given: one service and the facts around it, and the frame of the objects it owns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from polyglot_operator.api import groups, names
from polyglot_operator.api.model import PolyglotService
from polyglot_operator.api.names import Component
from polyglot_operator.api.workload import Workload
from polyglot_operator.build.facts import Facts

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Subject:
    """A service with the facts that its children depend on."""

    service: PolyglotService
    facts: Facts

    @property
    def name(self) -> str:
        """Name of the service."""
        return self.service.metadata.name

    @property
    def namespace(self) -> str:
        """Namespace of the service and of all its children."""
        return self.service.metadata.namespace

    def workload(self, component: Component) -> Workload:
        """Return what the spec says about a component."""
        return self.service.spec.inference if component is Component.INFERENCE else self.service.spec.gateway

    @property
    def worker_ports(self) -> dict[str, int]:
        """Names and numbers of the inference pods' gRPC ports, one for each of their processes."""
        return names.worker_ports(self.service.spec.inference.workers)

    def host(self, component: Component) -> str:
        """Return the DNS name of a component's Service."""
        return names.host(self.name, component, self.namespace, self.facts.cluster_domain)

    def child(self, api_version: str, kind: str, component: Component, **content: object) -> Object:
        """Return an object that belongs to one component."""
        name, labels = names.child(self.name, component), names.labels(self.name, component)
        return self._owned(api_version, kind, name, labels, content)

    def shared_child(self, api_version: str, kind: str, name: str, **content: object) -> Object:
        """Return an object that belongs to the whole service."""
        return self._owned(api_version, kind, name, names.service_labels(self.name), content)

    def _owned(self, api_version: str, kind: str, name: str, labels: dict[str, str], content: Object) -> Object:
        owner = {
            "apiVersion": groups.API_VERSION,
            "kind": groups.KIND,
            "name": self.name,
            "uid": self.facts.owner_uid,
            "controller": True,
            # True would ask for a right on the service's finalizers wherever owner references are policed.
            "blockOwnerDeletion": False,
        }
        metadata = {"name": name, "namespace": self.namespace, "labels": labels, "ownerReferences": [owner]}
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}


def present(**fields: object) -> Object:
    """Return the fields that have a value.

    Nulls, empty lists and empty maps are never sent, because an apply that holds them may count as a change every time
    (kubernetes/kubernetes#131175).
    """
    return {key: value for key, value in fields.items() if value not in (None, [], {}, ())}

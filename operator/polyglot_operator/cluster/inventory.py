"""What exists, as the watches last told: services whole, children and pods as the few fields that decisions need.

A full Deployment costs 30 KB as Python objects; what is kept of it costs about 2 KB.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from polyglot_operator.api import groups, names
from polyglot_operator.cluster import ownership
from polyglot_operator.cluster.kinds import DEPLOYMENT, POD, REPLICA_SET, SERVICE, Kind, Ref

Object = Mapping[str, Any]


class Key(NamedTuple):
    """Which service: what the work queue holds."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """Return `namespace/name`."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Child:
    """A live object of a service.

    `owner` is the uid of what controls it; `applied` tells whether we have ever applied it.
    `owned` is the fingerprint of the fields that we apply, `spec` that of the whole spec (kinds of the mesh only),
    `template` that of the pod template (Deployments and ReplicaSets only).
    `view` is an excerpt of the object, in the object's own shape.
    """

    ref: Ref
    uid: str
    version: int
    owner: str | None
    applied: bool
    deleting: bool
    owned: str
    spec: str
    template: str
    holds_replicas: bool
    view: Object = field(repr=False)

    @property
    def component(self) -> names.Component | None:
        """Which component the object belongs to."""
        return names.component_of(self.view["metadata"].get("labels", {}))


class Inventory:
    """Services and their children by key; newer versions win, whatever the order in which they arrive."""

    def __init__(self) -> None:
        self._services: dict[Key, Object] = {}
        self._children: dict[Key, dict[Ref, Child]] = defaultdict(dict)

    def service(self, key: Key) -> Object | None:
        """Return a service as last seen, or None when there is none."""
        return self._services.get(key)

    def services(self) -> Iterable[Key]:
        """Return the keys of all services."""
        return tuple(self._services)

    def readiness(self) -> Counter[str]:
        """Count the services by the status of their condition Ready, `Unknown` while they have none."""
        conditions = (body["status"].get("conditions", ()) for body in self._services.values())
        return Counter(next((c["status"] for c in found if c["type"] == "Ready"), "Unknown") for found in conditions)

    def children(self, key: Key, *kinds: Kind) -> dict[Ref, Child]:
        """Return what carries the labels of a service, of the given kinds or of all of them."""
        found = self._children.get(key, {})
        return {ref: child for ref, child in found.items() if not kinds or ref.kind in kinds}

    def of_kind(self, kind: Kind) -> dict[Ref, tuple[str, int]]:
        """Return uid and version of everything of a kind."""
        if kind == SERVICE:
            return {
                Ref(SERVICE, key.namespace, key.name): (body["metadata"]["uid"], _version(body))
                for key, body in self._services.items()
            }
        return {
            ref: (child.uid, child.version)
            for children in self._children.values()
            for ref, child in children.items()
            if ref.kind == kind
        }

    def put(self, body: Object) -> Key | None:
        """Take in an object; return the key of the service that it concerns, or None when it concerns none."""
        ref = Ref.of(body)
        key = _key_of(ref, body)
        if key is None:
            return None
        if ref.kind == SERVICE:
            known = self._services.get(key)
            if known is None or _version(known) <= _version(body):
                self._services[key] = _excerpt(body, spec=body.get("spec", {}), status=body.get("status", {}))
        else:
            child = self._children[key].get(ref)
            if child is None or child.version <= _version(body):
                self._children[key][ref] = _child(ref, body)
        return key

    def drop(self, body: Object) -> Key | None:
        """Forget an object that is gone, unless another one has its name by now; return its service's key."""
        ref = Ref.of(body)
        key = _key_of(ref, body) or self.key_of(ref)
        if key is not None:
            self.forget(key, ref, body["metadata"]["uid"])
        return key

    def forget(self, key: Key, ref: Ref, uid: str) -> None:
        """Forget that very object."""
        if ref.kind == SERVICE:
            known = self._services.get(key)
            if known is not None and known["metadata"]["uid"] == uid:
                del self._services[key]
            return
        child = self._children.get(key, {}).get(ref)
        if child is not None and child.uid == uid:
            del self._children[key][ref]
            if not self._children[key]:
                del self._children[key]

    def key_of(self, ref: Ref) -> Key | None:
        """Return the key under which an object is kept."""
        if ref.kind == SERVICE:
            key = Key(ref.namespace, ref.name)
            return key if key in self._services else None
        return next((key for key, children in self._children.items() if ref in children), None)


def _key_of(ref: Ref, body: Object) -> Key | None:
    if ref.kind == SERVICE:
        return Key(ref.namespace, ref.name)
    labels = body["metadata"].get("labels", {})
    by_label = ref.kind in (POD, REPLICA_SET)
    service = names.service_of_pod(labels) if by_label else names.service_of_child(ref.name, labels)
    return None if service is None else Key(ref.namespace, service)


def _version(body: Object) -> int:
    # Comparable as numbers since Kubernetes 1.35 (KEP-5504), and in fact ever since etcd3.
    return int(body["metadata"]["resourceVersion"])


def _child(ref: Ref, body: Object) -> Child:
    metadata = body["metadata"]
    managed = ref.kind not in (POD, REPLICA_SET)
    return Child(
        ref=ref,
        uid=metadata["uid"],
        version=_version(body),
        owner=ownership.controller(body),
        applied=ownership.applied(body),
        deleting="deletionTimestamp" in metadata,
        owned=ownership.owned_digest(body) if managed else "",
        spec=ownership.spec_digest(body) if ref.kind.is_mesh else "",
        template=ownership.template_digest(body) if ref.kind in (DEPLOYMENT, REPLICA_SET) else "",
        holds_replicas=ref.kind == DEPLOYMENT and ownership.owns(body, ("spec", "replicas"), groups.FIELD_MANAGER),
        view=_VIEWS.get(ref.kind.name, _view_of_others)(body),
    )


_METADATA: Final = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "labels",
    "deletionTimestamp",
    "finalizers",
)
_OWN_ANNOTATIONS: Final = f"{groups.GROUP}/"
_CONTAINER_STATUS: Final = ("name", "ready", "restartCount", "state", "lastState", "image")


def _excerpt(body: Object, **parts: Any) -> Object:
    metadata = {key: body["metadata"][key] for key in _METADATA if key in body["metadata"]}
    annotations = body["metadata"].get("annotations", {})
    metadata["annotations"] = {key: annotations[key] for key in annotations if key.startswith(_OWN_ANNOTATIONS)}
    return {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": metadata, **parts}


def _view_of_deployment(body: Object) -> Object:
    template = body["spec"]["template"]
    containers = [_pick(container, ("name", "image")) for container in template["spec"]["containers"]]
    slim = {"metadata": {"labels": template["metadata"].get("labels", {})}, "spec": {"containers": containers}}
    return _excerpt(
        body, spec={"replicas": body["spec"].get("replicas", 1), "template": slim}, status=body.get("status", {})
    )


def _view_of_pod(body: Object) -> Object:
    spec, status = body["spec"], body.get("status", {})
    statuses = {
        key: [_pick(container, _CONTAINER_STATUS) for container in status[key]]
        for key in ("containerStatuses", "initContainerStatuses")
        if key in status
    }
    names_of = {
        key: [_pick(container, ("name",)) for container in spec.get(key, ())]
        for key in ("containers", "initContainers")
    }
    claims = [_pick(volume, ("persistentVolumeClaim",)) for volume in spec.get("volumes", ())]
    rest = _pick(status, ("phase", "reason", "message", "conditions"))
    kept = {**_pick(spec, ("nodeName",)), **names_of, "volumes": [claim for claim in claims if claim]}
    return _excerpt(body, spec=kept, status={**rest, **statuses})


def _view_of_replica_set(body: Object) -> Object:
    return _excerpt(body, spec=_pick(body["spec"], ("replicas",)), status=body.get("status", {}))


def _view_of_others(body: Object) -> Object:
    keep_spec = body["apiVersion"].partition("/")[0].endswith(".istio.io")
    return _excerpt(body, **({"spec": body.get("spec", {})} if keep_spec else {}))


_VIEWS: Final[Mapping[str, Callable[[Object], Object]]] = {
    DEPLOYMENT.name: _view_of_deployment,
    POD.name: _view_of_pod,
    REPLICA_SET.name: _view_of_replica_set,
}


def _pick(source: Object, keys: Iterable[str]) -> dict[str, Any]:
    return {key: source[key] for key in keys if key in source}

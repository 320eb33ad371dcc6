"""What of a live object is ours, read from its managedFields, and whether it is as we would apply it.

After a server-side apply the manager's `fieldsV1` names exactly the fields that were sent, so the comparison needs to
know nothing about defaults, injected fields or other writers.
Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from polyglot_operator.api.groups import FIELD_MANAGER

_METADATA_OWNED: Final = ("labels", "annotations", "ownerReferences")


def digest(obj: Mapping[str, Any]) -> str:
    """Return a short fingerprint of everything in an object that can be owned."""
    metadata = obj.get("metadata", {})
    owned = {key: metadata[key] for key in _METADATA_OWNED if metadata.get(key)}
    rest = {key: obj[key] for key in obj if key not in ("apiVersion", "kind", "metadata", "status")}
    return _fingerprint({"metadata": owned, **rest})


def owned_digest(live: Mapping[str, Any], manager: str = FIELD_MANAGER) -> str:
    """Return the fingerprint of what a manager owns of a live object; equal to `digest` of what it last applied."""
    fields = _applied_fields(live, manager)
    return digest(_project(live, fields) if fields else {})


def spec_digest(obj: Mapping[str, Any]) -> str:
    """Return the fingerprint of a whole spec, whoever owns its fields."""
    return _fingerprint(obj.get("spec", {}))


def template_digest(obj: Mapping[str, Any]) -> str:
    """Return the fingerprint of a pod template, equal for a Deployment and its current ReplicaSet.

    Like the Deployment controller, it leaves out the label that this controller adds.
    Source: EqualIgnoreHash in k8s.io/kubernetes/pkg/controller/deployment/util.
    """
    template = obj["spec"]["template"]
    labels = {key: value for key, value in template["metadata"]["labels"].items() if key != "pod-template-hash"}
    return _fingerprint({**template, "metadata": {**template["metadata"], "labels": labels}})


def controller(live: Mapping[str, Any]) -> str | None:
    """Return the uid of the object that controls a live object."""
    owners = live["metadata"].get("ownerReferences", ())
    return next((owner["uid"] for owner in owners if owner.get("controller")), None)


def applied(live: Mapping[str, Any], manager: str = FIELD_MANAGER) -> bool:
    """Tell whether a manager has applied a live object."""
    return _entry(live, manager) is not None


def is_ours(owner: str | None, applied: bool, service_uid: str) -> bool:
    """Tell whether an object is a service's: controlled by it, or applied by us and controlled by nobody.

    The latter lost its owner reference by hand, or was left behind when a service of its name was deleted with
    `--cascade=orphan`. We never apply what is foreign, so what carries our field manager was made by us.
    """
    return owner == service_uid or (owner is None and applied)


def owns(live: Mapping[str, Any], path: tuple[str, ...], manager: str) -> bool:
    """Tell whether a manager has applied the field at a path of plain keys, such as `("spec", "replicas")`."""
    fields: Mapping[str, Any] | None = _applied_fields(live, manager)
    for key in path:
        fields = None if fields is None else fields.get(f"f:{key}")
    return fields is not None


def _applied_fields(live: Mapping[str, Any], manager: str) -> Mapping[str, Any] | None:
    entry = _entry(live, manager)
    return entry["fieldsV1"] if entry else None


def _entry(live: Mapping[str, Any], manager: str) -> Mapping[str, Any] | None:
    for entry in live.get("metadata", {}).get("managedFields", ()):
        if entry["manager"] == manager and entry["operation"] == "Apply" and "subresource" not in entry:
            found: Mapping[str, Any] = entry
            return found
    return None


def _project(value: Any, fields: Mapping[str, Any]) -> Any:
    """Return the part of a live value that a field set names; an empty set names all of it.

    A field that is ours and has no value is one that was applied as false: the API server leaves those out.
    """
    children = {key: below for key, below in fields.items() if key != "."}
    if not children:
        return value
    if isinstance(value, Mapping):
        named = {key[2:]: below for key, below in children.items() if key.startswith("f:")}
        return {key: _project(value[key], below) if key in value else False for key, below in named.items()}
    if isinstance(value, list):
        return [part for item in value if (part := _owned_item(item, children)) is not None]
    return value


def _owned_item(item: Any, children: Mapping[str, Any]) -> Any:
    for key, below in children.items():
        if key.startswith("k:") and isinstance(item, Mapping) and _has(item, json.loads(key[2:])):
            return _project(item, below)
        if key.startswith("v:") and item == json.loads(key[2:]):
            return item
    return None


def _has(item: Mapping[str, Any], keys: Mapping[str, Any]) -> bool:
    return all(item.get(key) == value for key, value in keys.items())


def _fingerprint(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:24]

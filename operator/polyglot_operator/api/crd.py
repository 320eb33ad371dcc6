"""The CustomResourceDefinition around the generated schema."""

from __future__ import annotations

from typing import Any, Final

from polyglot_operator.api import groups
from polyglot_operator.api.model import PolyglotService
from polyglot_operator.api.schema import structural

_READY: Final = '.status.conditions[?(@.type=="Ready")]'
# Name, type, path, priority (1 only with -o wide), description.
_COLUMNS: Final = (
    ("Ready", "string", f"{_READY}.status", 0, "Whether the service is as declared and serves."),
    ("Reason", "string", f"{_READY}.reason", 0, "Why, in a word."),
    ("URL", "string", ".status.url", 0, "Address of the REST API inside the cluster."),
    ("Age", "date", ".metadata.creationTimestamp", 0, "Time since creation."),
    ("Models", "string", ".status.summary.models", 1, "Names of the models."),
    ("Accelerator", "string", ".status.summary.accelerator", 1, "Devices for each inference pod."),
    ("Mesh", "string", ".status.summary.mesh", 1, "The mesh that the service runs in."),
)


def custom_resource_definition() -> dict[str, Any]:
    """Return the CRD of PolyglotService."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": groups.CRD_NAME},
        "spec": {
            "group": groups.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": groups.KIND,
                "listKind": f"{groups.KIND}List",
                "plural": groups.PLURAL,
                "singular": groups.SINGULAR,
                "shortNames": [groups.SHORT_NAME],
                "categories": [groups.CATEGORY],
            },
            "versions": [
                {
                    "name": groups.VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {"name": name, "type": kind, "jsonPath": path, "priority": priority, "description": text}
                        for name, kind, path, priority, text in _COLUMNS
                    ],
                    "schema": {"openAPIV3Schema": _root_schema()},
                }
            ],
        },
    }


def _root_schema() -> dict[str, Any]:
    """Return the service's schema; of the metadata a CRD may only say that it is an object."""
    schema = structural(PolyglotService)
    spec, status = schema["properties"]["spec"], schema["properties"]["status"]
    status.pop("default", None)
    described = {
        "apiVersion": {"type": "string", "description": "Version of this schema: " + groups.API_VERSION + "."},
        "kind": {"type": "string", "description": f"Always {groups.KIND}."},
        "metadata": {"type": "object"},
    }
    return {**schema, "required": ["spec"], "properties": {**described, "spec": spec, "status": status}}

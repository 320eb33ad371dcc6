"""The structural OpenAPI schema of a CRD, made from a pydantic model.

pydantic emits JSON Schema 2020-12; the API server takes a subset of OpenAPI 3.0 in which every node has a type, nothing
is referred to, and bounds keep the cost of CEL rules calculable.
Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

Schema = dict[str, Any]

_KEPT: Final = (
    "type", "format", "enum", "default", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems",
    "minProperties", "maxProperties", "required", "x-kubernetes-int-or-string", "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys", "x-kubernetes-validations",
)  # fmt: skip
_DROPPED: Final = {"title", "description", "properties", "items", "additionalProperties", "anyOf", "const", "$defs"}
_INT32: Final = 2**31


class SchemaError(ValueError):
    """A model can't be a structural schema; the text names the field."""


def structural(model: type[BaseModel]) -> Schema:
    """Return the model's structural schema.

    Raises `SchemaError` for a field without description, and for what the API server does not take: unions other than
    with null, floating-point numbers, free-form objects.
    """
    emitted = model.model_json_schema(by_alias=True)
    return _node(emitted, emitted.get("$defs", {}), model.__name__)


def _node(emitted: Mapping[str, Any], definitions: Mapping[str, Any], path: str) -> Schema:
    source = _resolved(emitted, definitions, path)
    unknown = set(source) - set(_KEPT) - _DROPPED
    if unknown:
        raise SchemaError(f"{path}: {', '.join(sorted(unknown))} has no structural form")
    found: Schema = {"description": _one_line(source["description"])} if "description" in source else {}
    found |= {key: source[key] for key in _KEPT if key in source}
    if "const" in source:
        found["enum"] = [source["const"]]
    if found.get("x-kubernetes-int-or-string"):
        return {**found, "anyOf": [{"type": "integer"}, {"type": "string"}]}
    return _typed(found, source, definitions, path)


def _typed(found: Schema, source: Mapping[str, Any], definitions: Mapping[str, Any], path: str) -> Schema:
    match found.get("type"):
        case "object":
            return _object(found, source, definitions, path)
        case "array":
            return found | {"items": _node(source["items"], definitions, f"{path}[]")}
        case "integer":
            wide = found.get("maximum", _INT32) >= _INT32
            return found | {"format": "int64" if wide else "int32"}
        case "string" | "boolean":
            return found
        case other:
            raise SchemaError(f"{path}: type {other} has no structural form")


def _object(found: Schema, source: Mapping[str, Any], definitions: Mapping[str, Any], path: str) -> Schema:
    if isinstance(source.get("additionalProperties"), Mapping):
        return found | {"additionalProperties": _node(source["additionalProperties"], definitions, f"{path}.*")}
    if "properties" not in source:
        raise SchemaError(f"{path}: a free-form object has no structural form")
    properties = {}
    for name, below in source["properties"].items():
        properties[name] = _node(below, definitions, f"{path}.{name}")
        if "description" not in properties[name]:
            raise SchemaError(f"{path}.{name}: a field needs a description; write a docstring below it")
    if "default" in found:
        # In full: the API server judges a default by the rules before it fills in what lies below it.
        found = {
            **found,
            "default": {name: field["default"] for name, field in properties.items() if "default" in field},
        }
    return found | {"properties": properties}


def _resolved(emitted: Mapping[str, Any], definitions: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    """Follow a reference and take the one branch of an optional; what stands beside them wins."""
    if "$ref" in emitted:
        target = definitions[emitted["$ref"].rpartition("/")[2]]
        return _resolved({**target, **_without(emitted, "$ref")}, definitions, path)
    if "anyOf" in emitted:
        branches = [branch for branch in emitted["anyOf"] if branch != {"type": "null"}]
        if len(branches) != 1:
            raise SchemaError(f"{path}: a union has no structural form")
        beside = _without(emitted, "anyOf")
        if beside.get("default", ...) is None:
            beside = _without(beside, "default")
        return _resolved({**_resolved(branches[0], definitions, path), **beside}, definitions, path)
    return emitted


def _without(schema: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != key}


def _one_line(text: str) -> str:
    return " ".join(text.split())

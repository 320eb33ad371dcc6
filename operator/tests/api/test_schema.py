"""The generated CRD keeps the API server's structural rules, and our own: described, bounded, no floats."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from pydantic import Field

from polyglot_operator.api.base import Part, text
from polyglot_operator.api.crd import custom_resource_definition
from polyglot_operator.api.schema import SchemaError, structural
from polyglot_operator.api.text import to_yaml

CRD = custom_resource_definition()
(VERSION,) = CRD["spec"]["versions"]
ROOT = VERSION["schema"]["openAPIV3Schema"]
ALLOWED = {
    "type", "format", "description", "enum", "default", "minimum", "maximum", "minLength", "maxLength", "minItems",
    "maxItems", "minProperties", "maxProperties", "required", "properties", "items", "additionalProperties", "anyOf",
    "x-kubernetes-int-or-string", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-validations",
}  # fmt: skip
INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]


def nodes(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every node below spec and status with its path."""
    yield path, schema
    for name, below in schema.get("properties", {}).items():
        yield from nodes(below, f"{path}.{name}")
    for key, suffix in (("items", "[]"), ("additionalProperties", ".*")):
        if key in schema:
            yield from nodes(schema[key], path + suffix)


NODES = {path: node for name in ("spec", "status") for path, node in nodes(ROOT["properties"][name], name)}
FIELDS = {path: node for path, node in NODES.items() if not path.endswith(("[]", ".*"))}


def of_type(kind: str) -> dict[str, dict[str, Any]]:
    """Return the nodes of a type by path."""
    return {path: node for path, node in NODES.items() if node.get("type") == kind}


def test_every_node_is_structural() -> None:
    for path, node in NODES.items():
        assert set(node) <= ALLOWED, path
        if node.get("x-kubernetes-int-or-string"):
            assert "type" not in node, path
            assert node["anyOf"] == INT_OR_STRING, path
        else:
            assert node["type"] in {"object", "array", "string", "integer", "boolean"}, path
            assert "anyOf" not in node, path
        assert not ("properties" in node and "additionalProperties" in node), path


def test_every_field_is_described_in_a_sentence() -> None:
    for path, node in FIELDS.items():
        assert node["description"].endswith("."), path
        assert node["description"][0].isupper() or node["description"].startswith("max"), path


def test_every_list_is_bounded_and_says_how_it_merges() -> None:
    assert of_type("array")
    for path, node in of_type("array").items():
        assert "maxItems" in node, path
        kind = node["x-kubernetes-list-type"]
        assert kind in {"map", "set", "atomic"}, path
        for key in node.get("x-kubernetes-list-map-keys", ()):
            assert key in node["items"]["required"], f"{path}: a list-map's key must be required"


def test_every_text_map_and_number_of_the_spec_is_bounded() -> None:
    for path, node in of_type("string").items():
        assert "maxLength" in node or "enum" in node, path
    for path, node in NODES.items():
        if "additionalProperties" in node:
            assert "maxProperties" in node, path
        if node.get("x-kubernetes-int-or-string"):
            assert "maxLength" in node, path
    for path, node in of_type("integer").items():
        assert path.startswith("status") or {"minimum", "maximum"} <= set(node), path


def test_every_object_has_known_fields() -> None:
    for path, node in of_type("object").items():
        assert "properties" in node or "additionalProperties" in node, path


def test_every_rule_has_a_message() -> None:
    rules = [rule for _, node in nodes(ROOT, "") for rule in node.get("x-kubernetes-validations", ())]
    assert len(rules) > 40
    assert all(rule["message"] and "\n" not in rule["message"] for rule in rules)


def test_required_fields_have_no_default() -> None:
    for path, node in NODES.items():
        for name in node.get("required", ()):
            assert "default" not in node["properties"][name], f"{path}.{name}"


def test_images_and_replicas_have_no_default() -> None:
    for component in ("inference", "gateway"):
        assert "default" not in NODES[f"spec.{component}.image"]
        assert "default" not in NODES[f"spec.{component}.replicas"]


def test_enums_are_in_camel_case() -> None:
    for path, node in NODES.items():
        for value in node.get("enum", ()):
            assert value[0].isupper(), f"{path}: {value}"


def test_the_crd_is_small_enough_for_client_side_apply() -> None:
    assert len(to_yaml(CRD).encode()) < 200_000


def test_columns_names_and_subresources_are_as_documented() -> None:
    columns = {column["name"]: column["priority"] for column in VERSION["additionalPrinterColumns"]}
    assert columns == {"Ready": 0, "Reason": 0, "URL": 0, "Age": 0, "Models": 1, "Accelerator": 1, "Mesh": 1}
    assert VERSION["subresources"] == {"status": {}}
    assert CRD["spec"]["names"]["shortNames"] == ["pgs"]
    assert CRD["spec"]["names"]["categories"] == ["polyglot"]


class Undescribed(Part):
    """A part."""

    field: Annotated[str, text(9)]


class Floating(Part):
    """A part."""

    field: float = 1.0
    """A float."""


class Union(Part):
    """A part."""

    field: int | str
    """A union."""


class FreeForm(Part):
    """A part."""

    field: dict[str, Any]
    """Anything."""


class Patterned(Part):
    """A part."""

    field: Annotated[str, Field(pattern="^a$")]
    """A pattern, which would be dropped silently."""


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (Undescribed, "Undescribed.field: a field needs a description"),
        (Floating, "Floating.field: type number"),
        (Union, "Union.field: a union"),
        (FreeForm, "FreeForm.field: a free-form object"),
        (Patterned, "Patterned.field: pattern"),
    ],
)
def test_what_has_no_structural_form_fails_the_generation(model: type[Part], complaint: str) -> None:
    with pytest.raises(SchemaError, match=complaint):
        structural(model)

"""What all parts of the resource share: lenient parsing, bounded types, and rules kept both by CEL and by Python."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Self, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    JsonValue,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule in two forms: `cel` for the API server, `holds` for `render` and the loop, with one message.

    The message names the field and what to do. As metadata of a type it judges that value, on a class its instances.
    The tests of the CRD on a real cluster and of the model judge the same examples by both forms.
    """

    cel: str
    holds: Callable[[Any], bool]
    message: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check the value after its own validation."""
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Add the rule to the value's schema."""
        found = dict(handler(schema))
        validations = [*found.get("x-kubernetes-validations", []), self.as_validation()]
        return {**found, "x-kubernetes-validations": validations}

    def as_validation(self) -> dict[str, str]:
        """Return the rule as the CRD holds it."""
        return {"rule": self.cel, "message": self.message}

    def _checked(self, value: Any) -> Any:
        if not self.holds(value):
            raise PydanticCustomError("rule", "{message}", {"message": self.message})
        return value


@dataclass(frozen=True, slots=True)
class ListOf:
    """How the API server merges a list: as a map by `keys`, as a set, or as one value."""

    kind: str
    keys: tuple[str, ...] = field(default=())

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Refuse duplicates, as the API server does."""
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Add the list's kind to its schema."""
        keys = {"x-kubernetes-list-map-keys": list(self.keys)} if self.keys else {}
        return {**handler(schema), "x-kubernetes-list-type": self.kind, **keys}

    def _checked(self, items: Iterable[Any]) -> Iterable[Any]:
        if self.kind == "atomic":
            return items
        seen: set[object] = set()
        for item in items:
            key = tuple(getattr(item, name) for name in self.keys) or item
            if key in seen:
                raise PydanticCustomError("duplicate", "holds {key} twice", {"key": repr(key)})
            seen.add(key)
        return items


ATOMIC = ListOf("atomic")
SET = ListOf("set")


def keyed_by(*keys: str) -> ListOf:
    """Return the kind of a list whose items are named by these fields."""
    return ListOf("map", keys)


class Part(BaseModel):
    """A part of the resource.

    Unknown fields are ignored, because a newer CRD may be installed than this operator knows; the CRD prunes them.
    Nulls count as absent, as they do at the API server.
    """

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True, use_attribute_docstrings=True
    )
    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _keep_rules(self) -> Self:
        broken = [rule.message for rule in self.rules if not rule.holds(self)]
        if broken:
            raise PydanticCustomError("rule", "{message}", {"message": "; ".join(broken)})
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Add the rules to the class's schema."""
        found = handler.resolve_ref_schema(handler(schema))
        if cls.rules:
            found["x-kubernetes-validations"] = [rule.as_validation() for rule in cls.rules]
        return found


def text(max_length: int, min_length: int = 1) -> StringConstraints:
    """Bounds of a string."""
    return StringConstraints(min_length=min_length, max_length=max_length)


def whole(minimum: int, maximum: int) -> FieldInfo:
    """Bounds of an integer; nothing else is converted to it."""
    return cast("FieldInfo", Field(strict=True, ge=minimum, le=maximum))


def bounded(maximum: int, minimum: int = 0) -> FieldInfo:
    """Bounds of a list's or map's number of entries."""
    return cast("FieldInfo", Field(min_length=minimum, max_length=maximum))


def int_or_string(**bounds: JsonValue) -> WithJsonSchema:
    """Schema of a value that may be a whole number or a string; floats are refused."""
    return WithJsonSchema({"x-kubernetes-int-or-string": True, **bounds})


def matching(pattern: str, message: str) -> Rule:
    """Return the rule that a string matches a pattern of RE2.

    A rule, not a schema `pattern`: its message says what to write instead of showing the expression alone.
    """
    compiled = re.compile(pattern)
    return Rule(f"self.matches(r'{pattern}')", lambda value: compiled.fullmatch(value) is not None, message)


_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"

ObjectName = Annotated[
    str,
    text(253),
    matching(_SUBDOMAIN, "must be the name of an object: lower-case letters, digits, '-' and '.', such as my-object"),
]

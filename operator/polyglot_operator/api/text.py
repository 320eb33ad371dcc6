"""YAML as people read it: keys in the order they were built in, long text in blocks, no aliases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  # a repeated value is written out again
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def to_yaml(obj: Mapping[str, Any]) -> str:
    """Return an object as one YAML document; the same object gives the same text."""
    return yaml.dump(obj, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)

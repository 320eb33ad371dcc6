"""Reading what users write: YAML files with PolyglotServices, perhaps among other objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import yaml

from polyglot_operator.api import groups
from polyglot_operator.api.model import InvalidService, PolyglotService, parse


class InputError(Exception):
    """A file or word of the command line can't be used; the text says where and why."""


def open_text(path: Path) -> TextIO:
    """Open a file for reading; raise `InputError`."""
    try:
        return path.open(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error


def documents(source: TextIO, name: str) -> list[Any]:
    """Return the YAML documents of an open file, without empty ones; raise `InputError`."""
    try:
        return [document for document in yaml.safe_load_all(source) if document is not None]
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{name}: no YAML: {error}") from error


def services(source: TextIO, name: str) -> Iterator[PolyglotService]:
    """Yield the PolyglotServices of a file; other objects beside them, such as a model's ConfigMap, are passed over.

    Raises `InputError`, also where there is none.
    """
    found = False
    for number, body in enumerate(documents(source, name), start=1):
        where = f"{name}: document {number}"
        if not isinstance(body, Mapping):
            raise InputError(f"{where}: expected an object, found {type(body).__name__}")
        if body.get("kind") != groups.KIND:
            continue
        if body.get("apiVersion") != groups.API_VERSION:
            raise InputError(f"{where}: apiVersion: expected {groups.API_VERSION}, found {body.get('apiVersion')}")
        found = True
        try:
            yield parse(body)
        except InvalidService as error:
            raise InputError("\n  ".join([f"{where}: no valid PolyglotService:", *error.errors])) from error
    if not found:
        raise InputError(f"{name}: holds no PolyglotService of {groups.API_VERSION}")

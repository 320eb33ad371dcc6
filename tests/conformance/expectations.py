"""What each server is expected to fail, read from expectations.yaml: the only place where a failure is allowed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

import yaml

from tests.conformance.suite import Check

PATH: Final = Path(__file__).with_name("expectations.yaml")
NOT_YET: Final = "not yet"
ON_PURPOSE: Final = "on purpose"


@dataclass(frozen=True)
class Expected:
    """A failure that is allowed: whose, of which checks, what its text must show, and why.

    Checks are named as `name` or `name[client]`, with `*` for any text.
    """

    kind: str
    targets: tuple[str, ...]
    checks: tuple[str, ...]
    shows: str
    reason: str

    def covers(self, target: str, checked: Check) -> bool:
        """Whether it is about this check of this server."""
        full = f"{checked.name}({checked.client})"
        patterns = (name.replace("[", "(").replace("]", ")") for name in self.checks)
        return target in self.targets and any(fnmatch(full, p) or fnmatch(checked.name, p) for p in patterns)


def read(path: Path = PATH) -> list[Expected]:
    """Return all allowed failures."""
    found: dict[str, list[dict[str, object]]] = yaml.safe_load(path.read_text())
    return [
        Expected(
            kind, _words(entry["targets"]), _words(entry["checks"]), str(entry["shows"]), str(entry["reason"]).strip()
        )
        for kind in (NOT_YET, ON_PURPOSE)
        for entry in found[kind]
    ]


def _words(value: object) -> tuple[str, ...]:
    assert isinstance(value, list), f"{value!r} must be a list"
    return tuple(map(str, value))


def expected_of(target: str, checked: Check, entries: Iterable[Expected]) -> Expected | None:
    """Return the entry about a check of a server. Raises ValueError when there are two."""
    covering = [entry for entry in entries if entry.covers(target, checked)]
    if len(covering) > 1:
        raise ValueError(f"{target}: {checked.name}[{checked.client}] has {len(covering)} entries in {PATH.name}")
    return covering[0] if covering else None


def surprise(failure: str | None, expected: Expected | None) -> str | None:
    """Return what is wrong with how a check ended, None when it ended as expected."""
    if failure is None:
        return f"it passes, but {PATH.name} says {expected.kind}: {expected.reason}" if expected else None
    if expected is None:
        return f"it fails: {failure}"
    if not re.search(expected.shows, failure):
        return f"it fails otherwise than {PATH.name} says ({expected.shows}): {failure}"
    return None


def unused(entries: Sequence[Expected], checks: Sequence[Check]) -> list[str]:
    """Return the entries' names of checks that no check has, and servers without any."""
    return [
        f"{pattern} of {target}"
        for entry in entries
        for target in entry.targets
        for pattern in entry.checks
        if not any(Expected("", (target,), (pattern,), "", "").covers(target, checked) for checked in checks)
    ]

"""The checklist: importing this package registers every check."""

from tests.conformance.checks import (
    administration,
    calls,
    description,
    kserve,
    lifecycle,
    memory,
    requests,
    streaming,
    tensors,
)
from tests.conformance.suite import CHECKS, Check

__all__ = [
    "administration",
    "calls",
    "description",
    "in_order",
    "kserve",
    "lifecycle",
    "memory",
    "requests",
    "streaming",
    "tensors",
]


def in_order() -> list[Check]:
    """Return all checks in the checklist's order."""
    return sorted(CHECKS, key=lambda checked: checked.item)

"""A service and its children as the API server of a real cluster stored them, managed fields included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

CAPTURED = Path(__file__).parent / "captured"


@pytest.fixture
def service() -> dict[str, Any]:
    """Return the captured PolyglotService."""
    found: dict[str, Any] = json.loads((CAPTURED / "service.json").read_text())
    return found


@pytest.fixture
def children() -> list[dict[str, Any]]:
    """Return everything that the operator had made of it."""
    return [json.loads(line) for line in (CAPTURED / "children.jsonl").read_text().splitlines()]

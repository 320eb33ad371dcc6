"""The real gateway in front of the real inference server, once for all component tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.component.processes import ROOT, Chain, build_gateway, chain

MODELS: list[dict[str, Any]] = [
    {
        "name": "digits",
        "format": "ONNX",
        "path": str(ROOT / "examples/digits"),
        "batching": {"maxSize": 32, "maxDelay": "0ms"},
    },
    {"name": "text-statistics", "format": "Python", "path": str(ROOT / "examples/python-model")},
    {"name": "storyteller", "format": "Python", "path": str(ROOT / "examples/streaming")},
    {"name": "counting", "format": "Python", "path": str(ROOT / "tests/component/models/counting")},
    {"name": "slow", "format": "Python", "path": str(ROOT / "tests/component/models/slow")},
]


@pytest.fixture(scope="session")
def gateway_binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gateway, built from this checkout."""
    return build_gateway(tmp_path_factory.mktemp("gateway"))


@pytest.fixture(scope="session")
def service(gateway_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """Gateway and inference server with the example models, shared by tests that leave them running."""
    with chain(tmp_path_factory.mktemp("chain"), gateway_binary, MODELS) as running:
        yield running

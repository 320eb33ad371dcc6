"""Pods and Deployments as a real cluster showed them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

CAPTURED = Path(__file__).parent / "captured"


@pytest.fixture(scope="session")
def pods() -> dict[str, Any]:
    """Return the captured pods by name; copy one before changing it."""
    lines = (CAPTURED / "pods.jsonl").read_text().splitlines()
    return {pod["metadata"]["name"]: pod for pod in map(json.loads, lines)}


@pytest.fixture(scope="session")
def refused_deployment_status() -> dict[str, Any]:
    """Return the status of a Deployment whose pods a quota refuses."""
    found: dict[str, Any] = json.loads((CAPTURED / "refused-deployment-status.json").read_text())
    return found


@pytest.fixture
def gateway() -> dict[str, dict[str, Any]]:
    """Return the Deployment, the ReplicaSet and the pod of a gateway that serves, by kind."""
    lines = (CAPTURED / "gateway.jsonl").read_text().splitlines()
    return {obj["kind"]: obj for obj in map(json.loads, lines)}

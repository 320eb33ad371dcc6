"""Every child that the builders make is taken by a real API server, and comes back as it was sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from polyglot_operator.cluster.ownership import digest, owned_digest
from tests.e2e.cluster import Command

GOLDEN = Path(__file__).resolve().parents[2] / "operator" / "tests" / "golden"
CHILDREN = [
    pytest.param(child, id=f"{path.parent.name}-{child['kind']}-{child['metadata']['name']}")
    for path in sorted(GOLDEN.glob("*/children.yaml"))
    for child in yaml.safe_load_all(path.read_text())
]


@pytest.mark.parametrize("child", CHILDREN)
def test_a_child_comes_back_as_it_was_sent(child: dict[str, Any], kubectl: Command, module_namespace: str) -> None:
    """Else it would read as edited by others for ever: a default filled into an atomic field, a quantity rewritten."""
    sent = {**child, "metadata": {**child["metadata"], "namespace": module_namespace}}
    words = ("--server-side", "--field-manager=polyglot-operator", "--dry-run=server", "--show-managed-fields")
    taken = json.loads(kubectl("apply", *words, "-f", "-", "-o", "json", stdin=json.dumps(sent)))
    assert owned_digest(taken) == digest(sent)

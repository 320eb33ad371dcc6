"""Every child that the builders make is taken by a real API server, and comes back as it was sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from polyglot_operator.cluster.ownership import digest, owned_digest
from tests.e2e.cluster import Command, CommandError

GOLDEN = Path(__file__).resolve().parents[2] / "operator" / "tests" / "golden"
AS_THE_OPERATOR = ("apply", "--server-side", "--force-conflicts", "--field-manager=polyglot-operator")
BUILT: list[tuple[str, dict[str, Any]]] = [
    (path.parent.name, child)
    for path in sorted(GOLDEN.glob("*/children.yaml"))
    for child in yaml.safe_load_all(path.read_text())
]
CHILDREN = [pytest.param(child, id=f"{folder}-{child['kind']}-{child['metadata']['name']}") for folder, child in BUILT]
ONE_OF_EACH_KIND = list({child["kind"]: child for _, child in BUILT}.values())


@pytest.mark.parametrize("child", CHILDREN)
def test_a_child_comes_back_as_it_was_sent(child: dict[str, Any], kubectl: Command, module_namespace: str) -> None:
    """Else it would read as edited by others for ever: a default filled into an atomic field, a quantity rewritten."""
    sent = {**child, "metadata": {**child["metadata"], "namespace": module_namespace}}
    words = ("--dry-run=server", "--show-managed-fields", "-f", "-", "-o", "json")
    taken = json.loads(kubectl(*AS_THE_OPERATOR, *words, stdin=json.dumps(sent)))
    assert owned_digest(taken) == digest(sent)


@pytest.mark.parametrize("child", ONE_OF_EACH_KIND, ids=lambda child: child["kind"])
def test_an_apply_that_may_only_create_never_touches_what_exists(
    child: dict[str, Any], kubectl: Command, module_namespace: str
) -> None:
    """What keeps a forced apply off an object that appeared a moment ago; see `client.Client.apply`."""
    metadata = {"name": f"only-{child['kind'].lower()}", "namespace": module_namespace}
    foreign = {**child, "metadata": metadata}
    ours = {**child, "metadata": {**metadata, "labels": {"ours": "true"}, "resourceVersion": "1"}}
    reference = (child["kind"], metadata["name"], "-n", module_namespace)
    read = ("get", *reference, "-o", "json", "--show-managed-fields")

    kubectl("create", "-f", "-", stdin=json.dumps(foreign))
    before = json.loads(kubectl(*read))["metadata"]
    with pytest.raises(CommandError, match="the object has been modified"):
        kubectl(*AS_THE_OPERATOR, "-f", "-", stdin=json.dumps(ours))
    after = json.loads(kubectl(*read))["metadata"]
    assert after["uid"] == before["uid"]
    assert "polyglot-operator" not in {entry["manager"] for entry in after["managedFields"]}
    kubectl("delete", *reference)
    kubectl(*AS_THE_OPERATOR, "-f", "-", stdin=json.dumps(ours))
    created = json.loads(kubectl(*read))
    assert created["metadata"]["labels"]["ours"] == "true"
    assert owned_digest(created) == digest({**ours, "metadata": {"labels": {"ours": "true"}}})
    kubectl("delete", *reference)

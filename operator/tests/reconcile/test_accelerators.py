"""How many accelerators a pod occupies."""

from __future__ import annotations

from typing import Any

import pytest

from polyglot_operator.reconcile.accelerators import requested

GPU = "nvidia.com/gpu"


def container(count: int | str) -> dict[str, Any]:
    return {"resources": {"limits": {GPU: str(count)}}}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"containers": [{}]}, 0),
        ({"containers": [container(2)]}, 2),
        ({"containers": [container(2), container(1)]}, 3),
        ({"containers": [container(1)], "initContainers": [container(4)]}, 4),
        ({"containers": [container(3)], "initContainers": [container(1), container(2)]}, 3),
        ({"containers": [container("1k")]}, 1000),
    ],
)
def test_containers_add_up_and_init_containers_take_turns(spec: dict[str, Any], expected: int) -> None:
    assert requested({"spec": spec}, GPU) == expected

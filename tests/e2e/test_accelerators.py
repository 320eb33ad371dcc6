"""GPUs: too few are told with counts."""

from __future__ import annotations

from tests.e2e.cluster import Command
from tests.e2e.services import SMALL, add_model, declare


def test_more_accelerators_than_there_are_is_told_with_the_counts(kubectl: Command, namespace: str) -> None:
    add_model(kubectl, namespace)
    accelerator = {"resourceName": "nvidia.com/gpu", "count": 64}
    service = declare(kubectl, namespace, "greedy", inference={"resources": SMALL, "accelerator": accelerator})
    condition = service.wait("AcceleratorsAvailable", "False", "InsufficientAccelerators", within=30)
    assert "wait for 64 nvidia.com/gpu each" in condition["message"]
    assert " are free, at most " in condition["message"]

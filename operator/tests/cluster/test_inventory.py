"""What the inventory holds after events in any order."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyglot_operator.cluster.inventory import Inventory, Key
from polyglot_operator.cluster.kinds import DEPLOYMENT, POD, SERVICE, Ref

Object = dict[str, Any]
FULL = Key("op-test", "full")


def config_map(version: int, uid: str = "u1", **metadata: Any) -> Object:
    labels = {"app.kubernetes.io/managed-by": "polyglot-operator", "polyglot.dev/service": "s"}
    fixed = {"name": "s-gateway", "namespace": "ns", "uid": uid, "resourceVersion": str(version), "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {**fixed, **metadata}}


def test_children_are_found_by_their_service(service: Object, children: list[Object]) -> None:
    inventory = Inventory()
    assert inventory.put(service) == FULL
    assert {inventory.put(child) for child in children} == {FULL}
    assert set(inventory.children(FULL)) == {Ref.of(child) for child in children}
    assert {ref.name for ref in inventory.children(FULL, DEPLOYMENT)} == {"full-inference", "full-gateway"}
    owners = {child.owner for child in inventory.children(FULL).values()}
    assert owners == {service["metadata"]["uid"]}


def test_what_is_kept_of_a_deployment_is_a_fraction_of_it(children: list[Object]) -> None:
    inventory = Inventory()
    for child in children:
        inventory.put(child)
    for ref, kept in inventory.children(FULL, DEPLOYMENT).items():
        assert "managedFields" not in kept.view["metadata"], ref
        assert len(repr(kept.view)) < len(repr(next(c for c in children if Ref.of(c) == ref))) / 3


def test_an_object_without_our_labels_concerns_no_service() -> None:
    inventory = Inventory()
    assert inventory.put(config_map(1, labels={})) is None
    assert not inventory.children(Key("ns", "s"))


@pytest.mark.parametrize("label", [None, "another"])
def test_a_child_that_is_labelled_for_another_service_stays_its_services(label: str | None) -> None:
    inventory = Inventory()
    inventory.put(config_map(1))
    labels = {"app.kubernetes.io/managed-by": "polyglot-operator", **({"polyglot.dev/service": label} if label else {})}
    assert inventory.put(config_map(2, labels=labels)) == Key("ns", "s")
    (child,) = inventory.children(Key("ns", "s")).values()
    assert child.version == 2


def test_an_older_version_never_replaces_a_newer_one() -> None:
    inventory = Inventory()
    inventory.put(config_map(10))
    inventory.put(config_map(9, deletionTimestamp="2026-01-01T00:00:00Z"))
    (child,) = inventory.children(Key("ns", "s")).values()
    assert (child.version, child.deleting) == (10, False)


def test_a_late_deletion_does_not_hide_the_successor_of_the_same_name() -> None:
    inventory = Inventory()
    inventory.put(config_map(1, uid="old"))
    inventory.put(config_map(5, uid="new"))
    assert inventory.drop(config_map(3, uid="old")) == Key("ns", "s")
    assert {child.uid for child in inventory.children(Key("ns", "s")).values()} == {"new"}


def test_an_object_that_lost_its_labels_is_forgotten_all_the_same() -> None:
    inventory = Inventory()
    inventory.put(config_map(1))
    assert inventory.drop(config_map(2, labels={})) == Key("ns", "s")
    assert not inventory.children(Key("ns", "s"))


@given(st.permutations(range(1, 8)))
def test_the_newest_version_is_kept_whatever_the_order_of_arrival(order: list[int]) -> None:
    inventory = Inventory()
    for version in order:
        inventory.put(config_map(version))
    (child,) = inventory.children(Key("ns", "s")).values()
    assert child.version == 7


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([], "Unknown"),
        ([{"type": "Ready", "status": "False"}], "False"),
        ([{"type": "Ready", "status": "True"}], "True"),
    ],
)
def test_services_are_counted_by_readiness(service: Object, conditions: list[Object], expected: str) -> None:
    inventory = Inventory()
    inventory.put({**copy.deepcopy(service), "status": {"conditions": conditions}})
    assert inventory.readiness() == {expected: 1}
    assert list(inventory.services()) == [FULL]
    assert set(inventory.of_kind(SERVICE)) == {Ref(SERVICE, *FULL)}


def test_a_service_that_is_gone_is_unknown(service: Object) -> None:
    inventory = Inventory()
    inventory.put(service)
    inventory.drop(service)
    assert inventory.service(FULL) is None
    assert inventory.of_kind(POD) == {}

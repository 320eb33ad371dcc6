"""What of a live object is ours, on objects that a real API server stored."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from polyglot_operator import build
from polyglot_operator.api.groups import FIELD_MANAGER
from polyglot_operator.api.model import parse
from polyglot_operator.build.facts import Capabilities, Facts, Images, MeshPhase
from polyglot_operator.cluster import ownership
from polyglot_operator.cluster.kinds import Ref

Object = dict[str, Any]


@pytest.fixture
def desired(service: Object) -> dict[Ref, Object]:
    """What the operator applied when the objects were captured."""
    facts = Facts(
        owner_uid=service["metadata"]["uid"],
        images=Images("polyglot/gateway:dev", "polyglot/inference:dev"),
        capabilities=Capabilities(("security.istio.io/v1",), True, True, True),
        mesh=MeshPhase.STRICT,
    )
    return {Ref.of(obj): obj for obj in build.children(parse(service), facts)}


def test_a_field_set_of_every_kind_is_projected_to_exactly_what_was_applied(
    children: list[Object], desired: dict[Ref, Object]
) -> None:
    assert {Ref.of(child) for child in children} == set(desired)
    for child in children:
        assert ownership.owned_digest(child) == ownership.digest(desired[Ref.of(child)]), Ref.of(child)


CONTAINER = ("spec", "template", "spec", "containers", 0)

OWNED_FIELDS = [
    ("Deployment", (*CONTAINER, "image"), "evil"),
    ("Deployment", (*CONTAINER, "resources", "requests", "cpu"), "11m"),
    ("Deployment", ("spec", "template", "spec", "securityContext", "runAsNonRoot"), False),
    ("Deployment", ("metadata", "labels", "polyglot.dev/service"), "other"),
    ("Service", ("spec", "ports", 0, "targetPort"), 1),
    ("ConfigMap", ("data",), {"gateway.yaml": "x", "inference.yaml": "x"}),
    ("PeerAuthentication", ("spec", "mtls", "mode"), "DISABLE"),
    ("AuthorizationPolicy", ("spec", "rules"), [{}]),
    ("HorizontalPodAutoscaler", ("spec", "maxReplicas"), 9),
    ("PodDisruptionBudget", ("spec", "maxUnavailable"), 0),
    ("ServiceAccount", ("automountServiceAccountToken",), True),
    ("ServiceAccount", ("metadata", "ownerReferences"), []),
]

FOREIGN_FIELDS = [
    ("Deployment", ("metadata", "annotations", "example.com/note"), "x"),
    ("Deployment", ("spec", "paused"), True),
    ("Deployment", ("status", "replicas"), 9),
    ("Service", ("spec", "sessionAffinity"), "ClientIP"),
    ("PeerAuthentication", ("spec", "portLevelMtls"), {"8000": {"mode": "DISABLE"}}),
    ("ConfigMap", ("data", "extra"), "x"),
]


def edited(children: list[Object], kind: str, path: tuple[str | int, ...], value: object) -> tuple[Object, Object]:
    """Return the first object of a kind before and after an edit."""
    before = next(child for child in children if child["kind"] == kind)
    after = copy.deepcopy(before)
    place: Any = after
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return before, after


@pytest.mark.parametrize(("kind", "path", "value"), OWNED_FIELDS)
def test_an_edit_of_a_field_that_we_apply_is_seen(
    children: list[Object], kind: str, path: tuple[str | int, ...], value: object
) -> None:
    before, after = edited(children, kind, path, value)
    assert ownership.owned_digest(after) != ownership.owned_digest(before)


@pytest.mark.parametrize(("kind", "path", "value"), FOREIGN_FIELDS)
def test_an_edit_of_a_field_that_others_own_is_left_alone(
    children: list[Object], kind: str, path: tuple[str | int, ...], value: object
) -> None:
    before, after = edited(children, kind, path, value)
    assert ownership.owned_digest(after) == ownership.owned_digest(before)


def test_a_foreign_field_in_a_spec_changes_the_fingerprint_of_the_whole_spec(children: list[Object]) -> None:
    before, after = edited(children, "PeerAuthentication", ("spec", "portLevelMtls"), {"8000": {"mode": "DISABLE"}})
    assert ownership.spec_digest(after) != ownership.spec_digest(before)


def test_a_field_that_was_taken_over_is_no_longer_ours_even_where_false_is_stored_by_leaving_it_out(
    children: list[Object],
) -> None:
    before, after = edited(children, "Deployment", ("spec", "template", "spec", "hostNetwork"), True)
    entry = next(e for e in after["metadata"]["managedFields"] if e["manager"] == FIELD_MANAGER)
    del entry["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:hostNetwork"]
    assert ownership.owned_digest(after) != ownership.owned_digest(before)


def test_an_object_that_we_never_applied_has_nothing_of_ours(children: list[Object]) -> None:
    for child in children:
        child["metadata"]["managedFields"] = []
    assert {ownership.owned_digest(child) for child in children} == {ownership.digest({})}


def test_the_owner_of_one_field_is_found_by_its_path(children: list[Object]) -> None:
    deployments = {c["metadata"]["name"]: c for c in children if c["kind"] == "Deployment"}
    replicas = ("spec", "replicas")
    assert ownership.owns(deployments["full-gateway"], replicas, FIELD_MANAGER)
    assert not ownership.owns(deployments["full-inference"], replicas, FIELD_MANAGER)
    assert not ownership.owns(deployments["full-gateway"], replicas, "someone-else")


@pytest.mark.parametrize(
    ("owner", "applied", "expected"),
    [
        ("ours", True, True),
        ("ours", False, True),
        (None, True, True),
        (None, False, False),
        ("another", True, False),
        ("another", False, False),
    ],
)
def test_ours_is_what_the_service_controls_and_what_we_applied_and_nobody_controls(
    owner: str | None, applied: bool, expected: bool
) -> None:
    assert ownership.is_ours(owner, applied, "ours") is expected


def test_who_controls_and_who_applied_is_read_from_a_live_object(
    service: dict[str, Any], children: list[dict[str, Any]]
) -> None:
    for child in children:
        managed = child["kind"] not in ("Pod", "ReplicaSet")
        assert (ownership.controller(child) == service["metadata"]["uid"]) is managed
        assert ownership.applied(child) is managed
    plain = {"metadata": {"ownerReferences": [{"uid": "u"}], "managedFields": []}}
    assert ownership.controller(plain) is None
    assert not ownership.applied(plain)

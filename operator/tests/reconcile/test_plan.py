"""Which writes a plan holds, for what is declared beside what exists."""

from __future__ import annotations

from typing import Any

import pytest

from polyglot_operator.cluster import ownership
from polyglot_operator.cluster.inventory import Child
from polyglot_operator.cluster.kinds import CHILDREN, Kind, Ref
from polyglot_operator.reconcile.plan import Action, Settled, Step, plan

OWNER = "owner-uid"
KIND = {kind.name: kind for kind in CHILDREN}


def wanted(kind: str, name: str = "x", **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "ns"}
    return {"apiVersion": KIND[kind].api_version, "kind": kind, "metadata": metadata, "spec": spec}


def existing(obj: dict[str, Any], **changed: Any) -> Child:
    """Return an object as it is after we applied it, but for what is changed."""
    ref = Ref.of(obj)
    fields: dict[str, Any] = {
        "ref": ref,
        "uid": f"uid-of-{ref.name}",
        "version": 1,
        "owner": OWNER,
        "applied": True,
        "deleting": False,
        "owned": ownership.digest(obj),
        "spec": ownership.spec_digest(obj),
        "template": "",
        "holds_replicas": "replicas" in obj["spec"],
        "view": {"metadata": {}, "spec": {"replicas": 3}},
    }
    return Child(**{**fields, **changed})


def steps(desired: list[dict[str, Any]], live: list[Child], **options: Any) -> list[tuple[Action, str]]:
    settled = options.pop("settled", {})
    found = plan(desired, {child.ref: child for child in live}, OWNER, settled, **options)
    return [(step.action, str(step.ref)) for step in found]


SERVICE = wanted("Service", port=1)
POLICY = wanted("PeerAuthentication", mtls={"mode": "STRICT"})


@pytest.mark.parametrize(
    ("live", "expected"),
    [
        ([], Action.CREATE),
        ([existing(SERVICE)], Action.UNCHANGED),
        ([existing(SERVICE, owned="drifted")], Action.UPDATE),
        ([existing(SERVICE, owner="someone-else")], Action.CONFLICT),
        ([existing(SERVICE, owner=None, applied=False)], Action.CONFLICT),
        ([existing(SERVICE, owner=None, owned="without its owner")], Action.UPDATE),
        ([existing(SERVICE, owned="drifted", deleting=True)], Action.WAIT),
        ([existing(SERVICE, spec="with fields of others")], Action.UNCHANGED),
    ],
)
def test_one_declared_object_takes_one_step(live: list[Child], expected: Action) -> None:
    assert steps([SERVICE], live) == [(expected, "Service x")]


def test_a_policy_of_the_mesh_with_foreign_fields_is_replaced() -> None:
    assert steps([POLICY], [existing(POLICY, spec="more")]) == [(Action.REPLACE, "PeerAuthentication x")]


def test_a_policy_with_edited_and_foreign_fields_is_applied_first() -> None:
    assert steps([POLICY], [existing(POLICY, owned="drifted", spec="more")])[0][0] is Action.UPDATE


def test_an_object_that_the_api_server_stores_in_another_form_is_applied_once() -> None:
    live = existing(SERVICE, owned="as stored")
    settled = {live.uid: Settled(sent=ownership.digest(SERVICE), owned="as stored")}
    assert steps([SERVICE], [live], settled=settled) == [(Action.UNCHANGED, "Service x")]
    assert steps([wanted("Service", port=2)], [live], settled=settled) == [(Action.UPDATE, "Service x")]
    assert steps([SERVICE], [existing(SERVICE, owned="edited")], settled=settled) == [(Action.UPDATE, "Service x")]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, [(Action.DELETE, "PeerAuthentication x")]),
        ({"owner": "someone-else"}, []),
        ({"owner": None, "applied": False}, []),
        ({"owner": None}, [(Action.DELETE, "PeerAuthentication x")]),
        ({"deleting": True}, []),
    ],
)
def test_only_what_is_ours_and_still_there_is_pruned(
    changed: dict[str, Any], expected: list[tuple[Action, str]]
) -> None:
    assert steps([], [existing(POLICY, **changed)]) == expected


def test_what_a_service_always_has_is_never_pruned() -> None:
    assert steps([], [existing(SERVICE), existing(wanted("Deployment")), existing(wanted("ConfigMap"))]) == []


def test_pods_and_replica_sets_are_never_pruned() -> None:
    pod = existing(SERVICE, ref=Ref(Kind("v1", "Pod", "pods"), "ns", "p"))
    assert steps([], [pod]) == []


def test_steps_keep_the_order_in_which_children_are_declared() -> None:
    desired = [wanted(kind.name) for kind in CHILDREN]
    assert [name for _, name in steps(desired, [])] == [f"{kind.name} x" for kind in CHILDREN]


def test_an_autoscaler_goes_before_what_it_scaled_is_applied_and_the_rest_goes_last() -> None:
    deployment = wanted("Deployment", replicas=2)
    live = [
        existing(wanted("HorizontalPodAutoscaler")),
        existing(POLICY),
        existing(deployment, owned="without replicas", holds_replicas=False),
    ]
    assert steps([deployment], live) == [
        (Action.DELETE, "HorizontalPodAutoscaler x"),
        (Action.UPDATE, "Deployment x"),
        (Action.DELETE, "PeerAuthentication x"),
    ]


def test_replicas_are_handed_over_before_they_are_left_to_the_autoscaler() -> None:
    deployment = wanted("Deployment")
    live = existing(deployment, owned="with replicas", holds_replicas=True)
    handover, update = plan([deployment], {live.ref: live}, OWNER, {})
    assert (handover.action, update.action) == (Action.HANDOVER, Action.UPDATE)
    assert handover.obj is not None
    assert handover.obj["spec"] == {"replicas": 3}


def test_replicas_are_not_handed_over_twice() -> None:
    deployment = wanted("Deployment")
    assert steps([deployment], [existing(deployment, owned="drifted")]) == [(Action.UPDATE, "Deployment x")]


def test_kinds_that_the_cluster_does_not_serve_are_left_out() -> None:
    served = [kind for kind in CHILDREN if not kind.is_mesh]
    assert steps([POLICY, SERVICE], [existing(wanted("VirtualService"))], served=served) == [
        (Action.CREATE, "Service x")
    ]


def test_every_write_names_the_very_object_that_was_seen() -> None:
    live = existing(SERVICE, owned="drifted")
    (step,) = plan([SERVICE], {live.ref: live}, OWNER, {})
    assert step == Step(Action.UPDATE, live.ref, "differs from what is declared", SERVICE, live.uid)

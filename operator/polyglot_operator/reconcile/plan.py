"""Which writes make what exists what should exist. Pure: data in, data out; `polyglot plan` may print it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from polyglot_operator.cluster import ownership
from polyglot_operator.cluster.inventory import Child
from polyglot_operator.cluster.kinds import CHILDREN, DEPLOYMENT, PRUNABLE, Kind, Ref

Object = dict[str, Any]


class Action(StrEnum):
    """What is to be done with one child."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"  # the whole spec, because it holds fields of others
    HANDOVER = "handover"  # of spec.replicas to the field manager that holds it for the autoscaler
    DELETE = "delete"
    UNCHANGED = "unchanged"
    WAIT = "wait"  # until it is gone: what is being deleted can't be kept
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Step:
    """One action on one object, and why; `uid` is the object that is meant, `obj` what is sent."""

    action: Action
    ref: Ref
    reason: str
    obj: Object | None = None
    uid: str | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of an apply: the fingerprints of what was sent, and of what the API server made of it."""

    sent: str
    owned: str


HPA: Final = next(kind for kind in CHILDREN if kind.name == "HorizontalPodAutoscaler")


def plan(
    desired: Iterable[Object],
    live: Mapping[Ref, Child],
    owner_uid: str,
    settled: Mapping[str, Settled],
    served: Iterable[Kind] = CHILDREN,
) -> list[Step]:
    """Return the steps in the order in which they must be taken.

    `desired` is in the order of application. `live` holds every labelled object of the service, its own or not.
    `settled` maps the uid of a child to its last apply; kinds that are not `served` are left out.
    Autoscalers go before what they scale is applied, everything else that is no longer wanted goes last.
    """
    known = frozenset(served)
    wanted = {ref: obj for obj in desired if (ref := Ref.of(obj)).kind in known}
    surplus = [
        Step(Action.DELETE, ref, "is no longer declared", uid=child.uid)
        for ref, child in live.items()
        if ref.kind in known & PRUNABLE and ref not in wanted and _is_ours(child, owner_uid) and not child.deleting
    ]
    steps = [step for step in surplus if step.ref.kind == HPA]
    for ref, obj in wanted.items():
        steps += _steps_for(ref, obj, live.get(ref), owner_uid, settled)
    return steps + [step for step in surplus if step.ref.kind != HPA]


def _steps_for(
    ref: Ref, obj: Object, child: Child | None, owner_uid: str, settled: Mapping[str, Settled]
) -> list[Step]:
    if child is None:
        return [Step(Action.CREATE, ref, "does not exist", obj)]
    if not _is_ours(child, owner_uid):
        return [Step(Action.CONFLICT, ref, "belongs to someone else", uid=child.uid)]
    if child.deleting:
        return [Step(Action.WAIT, ref, being_deleted(child.view), uid=child.uid)]
    if not _as_applied(obj, child, settled.get(child.uid)):
        update = Step(Action.UPDATE, ref, "differs from what is declared", obj, child.uid)
        return [*_handover(ref, obj, child), update]
    if ref.kind.is_mesh and child.spec != ownership.spec_digest(obj):
        return [Step(Action.REPLACE, ref, "holds fields that are not declared", obj, child.uid)]
    return [Step(Action.UNCHANGED, ref, "is as declared", uid=child.uid)]


def being_deleted(live: Mapping[str, Any]) -> str:
    """Say of an object with a deletionTimestamp what becomes of it, and who holds it."""
    finalizers = live["metadata"].get("finalizers", ())
    held = f"; held by the finalizers {', '.join(finalizers)}" if finalizers else ""
    return f"is being deleted, and made anew when it is gone{held}"


def _is_ours(child: Child, owner_uid: str) -> bool:
    return ownership.is_ours(child.owner, child.applied, owner_uid)


def _as_applied(obj: Object, child: Child, last: Settled | None) -> bool:
    """Tell whether applying `obj` would change nothing.

    Where the API server stores a field in another form than it was sent, the last apply's outcome decides.
    """
    digest = ownership.digest(obj)
    return child.owned == digest or (last is not None and (last.sent, last.owned) == (digest, child.owned))


def _handover(ref: Ref, obj: Object, child: Child) -> list[Step]:
    """Pass the present replica count on before it is no longer applied: else the API server resets it to one."""
    if ref.kind != DEPLOYMENT or "replicas" in obj["spec"] or not child.holds_replicas:
        return []
    part = {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "metadata": {"name": ref.name, "namespace": ref.namespace},
        "spec": {"replicas": child.view["spec"]["replicas"]},
    }
    return [Step(Action.HANDOVER, ref, "passes to the autoscaler", part, child.uid)]

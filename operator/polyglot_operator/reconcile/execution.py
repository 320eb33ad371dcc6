"""Carries out a plan, and says what became of every step."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, Final

from polyglot_operator.api.conditions import Reason
from polyglot_operator.api.groups import HANDOVER_FIELD_MANAGER
from polyglot_operator.cluster import ownership
from polyglot_operator.cluster.client import Client
from polyglot_operator.cluster.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from polyglot_operator.cluster.inventory import Inventory, Key
from polyglot_operator.cluster.kinds import DEPLOYMENT, Ref
from polyglot_operator.reconcile.plan import Action, Settled, Step, being_deleted
from polyglot_operator.reconcile.status import Verdict
from polyglot_operator.telemetry import Metrics

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Outcome:
    """What became of a plan.

    `again` tells that an object was replaced or removed meanwhile, so that the plan was made on an old picture.
    """

    conflicts: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    again: bool = False

    @property
    def verdict(self) -> Verdict:
        """Judge whether every child is as declared."""
        if self.conflicts:
            taken = ", ".join(self.conflicts)
            return Verdict("False", Reason.NAME_CONFLICT, f"not ours and left alone: {taken}; delete or rename it")
        if self.refused:
            return Verdict("False", Reason.APPLY_REFUSED, "; ".join(self.refused))
        if self.waiting:
            return Verdict("False", Reason.CHILD_TERMINATING, "; ".join(self.waiting))
        return Verdict("True", Reason.RECONCILED, "every child is as declared")


class Executor:
    """Takes the steps of plans and keeps the inventory in step with the API server's answers."""

    def __init__(self, client: Client, inventory: Inventory, metrics: Metrics) -> None:
        self._client = client
        self._inventory = inventory
        self._metrics = metrics
        self._settled: dict[Key, dict[str, Settled]] = {}

    def settled(self, key: Key) -> dict[str, Settled]:
        """Return what became of the last apply of each child, by uid."""
        return self._settled.get(key, {})

    def forget(self, key: Key) -> None:
        """Drop what is remembered about a service that is gone."""
        self._settled.pop(key, None)

    async def carry_out(self, key: Key, owner_uid: str, steps: list[Step]) -> Outcome:
        """Take the steps in order.

        After a failure no Deployment is touched: its pods may need what failed, such as a policy of the mesh.
        Raises `UnavailableError` or `ThrottledError` when the API server can't answer; nothing is lost by trying later.
        Raises `NamespaceTerminatingError` when the namespace is being deleted; there is nothing left to do then.
        """
        outcome = Outcome()
        for step in steps:
            if (outcome.conflicts or outcome.refused) and _starts_pods(step):
                continue
            try:
                result = await self._take(key, owner_uid, step, outcome)
            except (InvalidError, ForbiddenError, NotFoundError) as error:
                outcome.refused.append(f"{step.ref}: {error.message}")
                result = "failed"
            except ConflictError:
                self._inventory.forget(key, step.ref, step.uid or "")
                outcome.again = True
                result = "failed"
            self._metrics.applied(step.ref.kind.name, result)
            if step.action != Action.UNCHANGED:
                log.info(
                    "Took step",
                    extra={"service": str(key), "child": str(step.ref), "result": result, "why": step.reason},
                )
        self._remember_only_the_living(key)
        return outcome

    async def _take(self, key: Key, owner_uid: str, step: Step, outcome: Outcome) -> str:
        match step:
            case Step(Action.UNCHANGED):
                return "unchanged"
            case Step(Action.CONFLICT):
                outcome.conflicts.append(str(step.ref))
                return "conflict"
            case Step(Action.WAIT, ref, reason):
                return _wait(ref, reason, outcome)
            case Step(Action.DELETE, ref, uid=str(uid)):
                await self._delete(key, ref, uid)
                return "deleted"
            case Step(Action.CREATE, ref, obj=dict(obj)):
                return await self._create(key, owner_uid, ref, obj, outcome)
            case Step(obj=dict(obj), uid=str(uid)):
                await self._write(key, step.action, obj, uid)
                return "configured"
        raise AssertionError(f"{step} lacks what its action needs")

    async def _write(self, key: Key, action: Action, obj: dict[str, Any], uid: str) -> None:
        if action == Action.UPDATE:
            self._settle(key, obj, await self._client.apply(obj, uid))
        elif action == Action.HANDOVER:
            self._inventory.put(await self._client.apply(obj, uid, HANDOVER_FIELD_MANAGER))
        else:
            self._inventory.put(await self._client.replace_spec(obj, uid))

    async def _create(self, key: Key, owner_uid: str, ref: Ref, obj: dict[str, Any], outcome: Outcome) -> str:
        """Apply what the watches don't show; it may exist, be foreign, or have lost the label that we watch by."""
        try:
            found = await self._client.get(ref)
        except NotFoundError:
            self._settle(key, obj, await self._client.apply(obj))
            return "created"
        metadata = found["metadata"]
        if not ownership.is_ours(ownership.controller(found), ownership.applied(found), owner_uid):
            outcome.conflicts.append(str(ref))
            return "conflict"
        if "deletionTimestamp" in metadata:
            return _wait(ref, being_deleted(found), outcome)
        self._settle(key, obj, await self._client.apply(obj, metadata["uid"]))
        return "configured"

    async def _delete(self, key: Key, ref: Ref, uid: str) -> None:
        try:
            await self._client.delete(ref, uid)
        except NotFoundError:
            log.debug("Was gone already", extra={"service": str(key), "child": str(ref)})
        self._inventory.forget(key, ref, uid)

    def _settle(self, key: Key, sent: dict[str, Any], answer: dict[str, Any]) -> None:
        self._inventory.put(answer)
        outcome = Settled(ownership.digest(sent), ownership.owned_digest(answer))
        self._settled.setdefault(key, {})[answer["metadata"]["uid"]] = outcome

    def _remember_only_the_living(self, key: Key) -> None:
        alive = {child.uid for child in self._inventory.children(key).values()}
        self._settled[key] = {uid: last for uid, last in self.settled(key).items() if uid in alive}


def _wait(ref: Ref, reason: str, outcome: Outcome) -> str:
    """Leave what is being deleted to its end. The watches tell of that only where it has our labels."""
    outcome.waiting.append(f"{ref} {reason}")
    return "waiting"


def _starts_pods(step: Step) -> bool:
    return step.ref.kind == DEPLOYMENT and step.action in _WRITES


_WRITES: Final = frozenset({Action.CREATE, Action.UPDATE, Action.HANDOVER})

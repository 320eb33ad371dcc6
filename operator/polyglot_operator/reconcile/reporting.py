"""Writes status and Kubernetes Events, only when there is something new to say, and not too often."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from polyglot_operator.cluster.client import Client
from polyglot_operator.cluster.errors import ClusterError, ConflictError, NamespaceTerminatingError, NotFoundError
from polyglot_operator.cluster.inventory import Inventory, Key
from polyglot_operator.cluster.kinds import EVENT, SERVICE, Ref
from polyglot_operator.reconcile.status import Change, Observed, Transition, change, make, merge_patch, transitions
from polyglot_operator.telemetry import SERVICE_NAME, Metrics

log = logging.getLogger(__name__)

# Least seconds between two status writes of one service: a rollout changes counts many times a second.
PAUSE: Final[Mapping[Change, float]] = {Change.CONDITIONS: 0.5, Change.DETAILS: 5.0}
MAX_NOTE: Final = 1024


class Reporter:
    """Brings the status of services up to date."""

    def __init__(
        self,
        *,
        client: Client,
        inventory: Inventory,
        metrics: Metrics,
        instance: str,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        self._inventory = inventory
        self._metrics = metrics
        self._instance = instance
        self._clock = clock
        self._now = now
        self._written: dict[Key, float] = {}

    def forget(self, key: Key) -> None:
        """Drop what is remembered about a service that is gone."""
        self._written.pop(key, None)

    async def report(self, key: Key, body: Mapping[str, Any], observed: Observed) -> float | None:
        """Write the status if it differs; return the seconds to wait where it is too early for that.

        Raises `ClusterError` when the API server refuses or fails the write.
        """
        old = body.get("status", {})
        new = make(observed, old, self._now())
        difference = change(old, new)
        if difference is Change.NONE:
            return None
        wait = self._written.get(key, float("-inf")) + PAUSE[difference] - self._clock()
        if wait > 0:
            return wait
        ref = Ref(SERVICE, key.namespace, key.name)
        try:
            answer = await self._client.patch_status(ref, body["metadata"]["uid"], merge_patch(old, new))
        except (NotFoundError, ConflictError):
            return None  # the service is gone, or another one by now: its own events follow
        self._written[key] = self._clock()
        self._inventory.put(answer)
        self._metrics.status_written()
        self._metrics.services(self._inventory.readiness())
        for transition in transitions(old, new):
            await self._post(body, transition)
        return None

    async def _post(self, body: Mapping[str, Any], transition: Transition) -> None:
        """Post an Event; it is a courtesy, so that a failure is logged and nothing more."""
        metadata = body["metadata"]
        level = logging.WARNING if transition.bad else logging.INFO
        words = {"service": f"{metadata['namespace']}/{metadata['name']}", "condition": transition.kind.value}
        log.log(level, "Condition changed", extra={**words, "reason": transition.reason, "why": transition.message})
        now = self._now()
        event = {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.name,
            "metadata": {
                "name": f"{metadata['name']}.{int(now.timestamp() * 1e6):x}.{transition.kind.lower()}",
                "namespace": metadata["namespace"],
            },
            "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": f"polyglot.dev/{SERVICE_NAME}",
            "reportingInstance": self._instance,
            "regarding": {
                "apiVersion": body["apiVersion"],
                "kind": body["kind"],
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
            },
            "type": "Warning" if transition.bad else "Normal",
            "reason": transition.reason,
            "action": transition.kind.value,
            "note": transition.message[:MAX_NOTE],
        }
        try:
            await self._client.create(event)
        except NamespaceTerminatingError:
            log.debug("Posted no event: the namespace is being deleted", extra=words)
        except ClusterError as error:
            log.warning("Could not post an event", extra={**words, "error": error.message})

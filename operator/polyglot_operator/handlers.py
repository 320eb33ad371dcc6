"""Kopf's wiring: events in, keys out; nothing else.

Only `index` and `on.event` handlers exist, so Kopf writes nothing: no annotation, no finalizer, no status. The index
handlers fill the inventory; every event handler waits until all kinds were listed once, and then names the service
that is due.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import kopf
from kubernetes.aio.client import Configuration

from polyglot_operator.api import names
from polyglot_operator.cluster import connection
from polyglot_operator.cluster.inventory import Inventory, Key
from polyglot_operator.cluster.kinds import SERVICE, WATCHED, Kind
from polyglot_operator.cluster.watches import Watches
from polyglot_operator.reconcile.queue import WorkQueue

COALESCE: Final = 0.2  # seconds; one apply is answered by a burst of events of children and pods


class NoDiffBase(kopf.DiffBaseStorage):
    """Keeps no last state: nothing here looks at differences, and computing them costs 4 times the rest of an event."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Return nothing instead of a deep copy of the object."""
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        """Know of no earlier state."""
        return None

    def store(self, **_: Any) -> None:
        """Store nothing."""


def registry(
    configuration: Configuration, watches: Watches, inventory: Inventory, queue: WorkQueue[Key]
) -> kopf.OperatorRegistry:
    """Return the handlers of all watched kinds, bound to the inventory that they fill and the queue that they feed."""
    handlers = kopf.OperatorRegistry()

    async def login(**_: Any) -> kopf.AiohttpSession:
        session: aiohttp.ClientSession = connection.watch_session(configuration, watches)
        return kopf.AiohttpSession(server=configuration.host, aiohttp_session=session)

    kopf.on.login(registry=handlers, id="login")(login)
    for kind in (SERVICE, *WATCHED):
        _watch(kind, handlers, inventory, queue)
    return handlers


def _watch(kind: Kind, handlers: kopf.OperatorRegistry, inventory: Inventory, queue: WorkQueue[Key]) -> None:
    async def remember(body: Mapping[str, Any], **_: Any) -> None:
        inventory.put(body)

    async def enqueue(type: str | None, body: Mapping[str, Any], **_: Any) -> None:  # noqa: A002 - Kopf's name
        key = inventory.drop(body) if type == "DELETED" else inventory.put(body)
        if key is not None:
            queue.add_after(key, 0.0 if kind == SERVICE else COALESCE)

    selector: dict[str, Any] = {"group": kind.group, "version": kind.version, "plural": kind.plural}
    kopf.index(**selector, id=f"remember-{kind.plural}", registry=handlers)(remember)
    kopf.on.event(**selector, id=f"enqueue-{kind.plural}", registry=handlers)(enqueue)


def settings(namespaced: bool) -> kopf.OperatorSettings:
    """Return Kopf's settings; each differs from its default for the reason beside it."""
    found = kopf.OperatorSettings()
    found.persistence.diffbase_storage = NoDiffBase()
    found.posting.enabled = False  # events are ours, on transitions only
    found.peering.standalone = True
    found.scanning.disabled = namespaced  # would need rights on all namespaces and CRDs
    found.queueing.idle_timeout = 1.0  # handlers only enqueue; worker_limit stays None, it would cap the throughput
    found.watching.server_timeout = 300  # a periodic reconnect, whatever a load balancer does to idle connections
    found.watching.client_timeout = 310
    found.watching.connect_timeout = 3  # a connection begun before the API server is back hangs, a new one does not
    found.watching.reconnect_backoff = 1.0
    found.watching.chunk_size = 500
    found.networking.request_timeout = 30
    found.networking.connect_timeout = 3
    found.networking.error_backoffs = (1, *[2] * 30)  # outlasts a restart of the API server, and comes soon after it
    for kind in WATCHED:
        found.watching.label_selectors[kind.group, kind.version, kind.plural] = names.CHILD_SELECTOR
    return found

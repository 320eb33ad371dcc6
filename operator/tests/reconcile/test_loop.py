"""The loop beside a child that is being deleted, over HTTP, with objects as a real cluster stored them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client import Configuration

from polyglot_operator import telemetry
from polyglot_operator.build.facts import Capabilities, Images
from polyglot_operator.cluster import connection
from polyglot_operator.cluster.client import Client
from polyglot_operator.cluster.inventory import Inventory, Key
from polyglot_operator.cluster.kinds import CHILDREN, Ref
from polyglot_operator.reconcile.loop import Loop, Surroundings
from polyglot_operator.reconcile.queue import BASE_DELAY, WorkQueue
from polyglot_operator.reconcile.reporting import Reporter

CAPTURED = Path(__file__).parents[1] / "cluster/captured"
KEY = Key("op-test", "full")
SOURCE = "/api/v1/namespaces/op-test/configmaps/digits-model"
ISTIO = tuple(sorted({kind.api_version for kind in CHILDREN if kind.is_mesh}))
FINALIZER = "example.com/backup"


class Cluster:
    """The captured service and its children by path, one of which is being deleted. Writes are taken, and counted."""

    def __init__(self, *, labelled: bool) -> None:
        service = json.loads((CAPTURED / "service.json").read_text())
        children = [json.loads(line) for line in (CAPTURED / "children.jsonl").read_text().splitlines()]
        self.objects: dict[str, Any] = {Ref.of(body).path: body for body in (service, *children)} | {SOURCE: {}}
        self.dying = next(child for child in children if child["kind"] == "ConfigMap")
        self.dying["metadata"] |= {"deletionTimestamp": "2026-11-21T09:30:00Z", "finalizers": [FINALIZER]}
        if not labelled:
            del self.dying["metadata"]["labels"]
        self.path = Ref.of(self.dying).path
        self.looked = 0
        self.status: dict[str, Any] = {}

    async def answer(self, request: web.Request) -> web.Response:
        """Answer as the API server does, but that an apply to what exists changes nothing."""
        path, sent = request.path, await request.json() if request.can_read_body else {}
        self.looked += request.method == "GET" and path == self.path
        if path.endswith("/status"):
            path = path.removesuffix("/status")
            self.status = self.objects[path]["status"] = self.objects[path]["status"] | sent["status"]
        elif path not in self.objects and request.method == "PATCH":
            identity = {"uid": "anew", "resourceVersion": "9000"}
            self.objects[path] = sent | {"metadata": sent["metadata"] | identity}
        if request.method == "POST":
            return web.json_response(sent, status=201)
        return web.json_response(self.objects.get(path, {}), status=200 if path in self.objects else 404)

    def reconciled(self) -> tuple[str, str, str]:
        """Return status, reason and message of the condition Reconciled."""
        condition = next(found for found in self.status["conditions"] if found["type"] == "Reconciled")
        return condition["status"], condition["reason"], condition["message"]


@dataclass(frozen=True, slots=True)
class Operator:
    """The parts of a running loop; the clock of its queue stands still."""

    inventory: Inventory
    queue: WorkQueue[Key]

    async def idle(self) -> float:
        """Let it work until nothing is due; return the seconds until something is."""
        async with asyncio.timeout(10):
            while len(self.queue) or self.queue.processing:  # noqa: ASYNC110  # it tells nobody that it is idle
                await asyncio.sleep(0.01)
        return self.queue.next_due() or 0.0


@asynccontextmanager
async def running(cluster: Cluster) -> AsyncIterator[Operator]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", cluster.answer)
    async with TestServer(application) as server:
        client = Client(connection.api_client(Configuration(host=str(server.make_url("")).rstrip("/"))))
        inventory, queue, metrics = Inventory(), WorkQueue[Key](lambda: 0.0), telemetry.Metrics()
        for body in filter(None, cluster.objects.values()):
            inventory.put(body)
        loop = Loop(
            client=client,
            inventory=inventory,
            queue=queue,
            reporter=Reporter(client=client, inventory=inventory, metrics=metrics, instance="test", clock=lambda: 0.0),
            metrics=metrics,
            tracer=telemetry.tracer({}),
            surroundings=Surroundings(Images(gateway="gateway:1", inference="inference:1"), "cluster.local", True),
        )
        loop.capabilities = Capabilities(istio=ISTIO, metrics_api=True)
        working = asyncio.create_task(loop.work())
        try:
            yield Operator(inventory, queue)
        finally:
            queue.close()
            await working
            await client.close()


@pytest.mark.parametrize("labelled", [True, False], ids=["labelled", "unlabelled"])
async def test_a_child_that_is_being_deleted_is_waited_for_with_backoff_and_named(labelled: bool) -> None:
    cluster = Cluster(labelled=labelled)
    async with running(cluster) as operator:
        for delay in (BASE_DELAY, 2 * BASE_DELAY):
            operator.queue.add(KEY)
            assert delay <= await operator.idle() <= 1.5 * delay
        assert cluster.looked == (0 if labelled else 2)
        truth, reason, message = cluster.reconciled()
        assert (truth, reason) == ("False", "ChildTerminating")
        assert message.startswith(f"{Ref.of(cluster.dying)} is being deleted, and made anew when it is gone; ")
        assert message.endswith(f"held by the finalizers {FINALIZER}")
        gone = cluster.objects.pop(cluster.path)
        operator.inventory.drop(gone)
        operator.queue.add(KEY)
        await operator.idle()
        assert cluster.objects[cluster.path]["metadata"]["uid"] == "anew"

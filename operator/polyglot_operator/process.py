"""The operator's process: what runs in it, in which order it starts, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import time
from typing import Final

import kopf
import uvloop

from polyglot_operator import handlers, liveness, telemetry
from polyglot_operator.build.facts import Capabilities
from polyglot_operator.cluster import audit, capabilities, connection
from polyglot_operator.cluster.client import Client
from polyglot_operator.cluster.errors import ClusterError
from polyglot_operator.cluster.inventory import Inventory, Key
from polyglot_operator.cluster.kinds import SERVICE, WATCHED
from polyglot_operator.cluster.watches import Watches
from polyglot_operator.reconcile.loop import Loop, Surroundings
from polyglot_operator.reconcile.queue import WorkQueue
from polyglot_operator.reconcile.reporting import Reporter
from polyglot_operator.settings import Settings

log = logging.getLogger(__name__)

REDISCOVERY: Final = 15.0  # Istio counts when seen twice
AUDIT: Final = 300.0
DRAIN: Final = 20.0


def run(settings: Settings) -> None:
    """Reconcile until SIGTERM or SIGINT.

    Raises `kubernetes.aio.config.ConfigException` without a cluster to connect to, and OSError when a port is taken.
    """
    telemetry.configure_logging(settings.log_level)
    uvloop.run(Operator(settings).run())


class Operator:
    """Everything of one process, wired together."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._metrics = telemetry.Metrics()
        self._watches = Watches()
        self._inventory = Inventory()
        self._queue: WorkQueue[Key] = WorkQueue(time.monotonic)

    async def run(self) -> None:
        """Start all parts, watch until told to stop, then let running reconciles end."""
        settings = self._settings
        configuration = await connection.load(settings.context)
        client = Client(connection.api_client(configuration), self._metrics.requested)
        reporter = Reporter(client=client, inventory=self._inventory, metrics=self._metrics, instance=settings.pod_name)
        surroundings = Surroundings(settings.images, settings.cluster_domain, clusterwide=not settings.namespaces)
        loop = Loop(
            client=client,
            inventory=self._inventory,
            queue=self._queue,
            reporter=reporter,
            metrics=self._metrics,
            tracer=telemetry.tracer(),
            surroundings=surroundings,
        )
        alive = liveness.Liveness(self._watches, loop.longest_run)
        stop_endpoints = await liveness.serve(alive, self._metrics, settings.health_port, settings.metrics_port)
        try:
            loop.capabilities = await self._first_discovery(client)
            log.info("Started", extra={"namespaces": settings.namespaces or "all", "server": configuration.host})
            async with asyncio.TaskGroup() as tasks:
                workers = [tasks.create_task(loop.work()) for _ in range(settings.workers)]
                rounds = [tasks.create_task(self._rediscover(client, loop)), tasks.create_task(self._audit(client))]
                await kopf.operator(
                    registry=handlers.registry(configuration, self._watches, self._inventory, self._queue),
                    settings=handlers.settings(namespaced=bool(settings.namespaces)),
                    clusterwide=not settings.namespaces,
                    namespaces=settings.namespaces,
                    standalone=True,
                    # Given, because Kopf would look up the user's name, and an image need not have one for its uid.
                    identity=settings.pod_name,  # type: ignore[arg-type]  # Kopf keeps this NewType of str private
                )
                for task in rounds:
                    task.cancel()
                self._queue.close()
                await asyncio.wait(workers, timeout=DRAIN)
                for task in workers:
                    task.cancel()
        finally:
            await stop_endpoints()
            await client.close()
            log.info("Stopped")

    async def _first_discovery(self, client: Client) -> Capabilities:
        """Learn what the cluster can do before anything is judged by it."""
        while True:
            try:
                return await capabilities.discover(client, self._settings.namespaces)
            except ClusterError as error:
                log.warning("Could not discover what the cluster serves", extra={"error": error.message})
                await asyncio.sleep(1.0)

    async def _rediscover(self, client: Client, loop: Loop) -> None:
        """Keep the capabilities up to date; a change makes every service due."""
        seen = loop.capabilities
        while True:
            await asyncio.sleep(REDISCOVERY)
            try:
                before, seen = seen, await capabilities.discover(client, self._settings.namespaces)
            except ClusterError as error:
                log.warning("Could not discover what the cluster serves", extra={"error": error.message})
                continue
            found = capabilities.believed(before, seen)
            if found != loop.capabilities:
                log.info("The cluster's capabilities changed", extra={"before": loop.capabilities, "now": found})
                self._react_to_apis(loop.capabilities.istio, found.istio)
                loop.capabilities = found
                for key in self._inventory.services():
                    self._queue.add(key)

    def _react_to_apis(self, before: tuple[str, ...] | None, now: tuple[str, ...] | None) -> None:
        """Let watches of vanished kinds rest; new kinds are found by Kopf, except where it may not look for them."""
        if now is None:
            for group in capabilities.ISTIO_GROUPS:
                self._watches.forget(group)
        if before != now and self._settings.namespaces:
            log.warning("Restarting to watch what is served now: in namespaced mode nothing else would notice")
            signal.raise_signal(signal.SIGTERM)

    async def _audit(self, client: Client) -> None:
        """Look for what vanished unseen after a watch has started over, and every few minutes; then visit all."""
        while True:
            await self._watches.restarted(AUDIT * random.uniform(0.8, 1.2))  # noqa: S311 - spreads load, hides nothing
            try:
                for kind in (SERVICE, *WATCHED):
                    for namespace in self._settings.namespaces or (None,):
                        for key in await audit.drop_vanished(client, self._inventory, kind, namespace):
                            log.info("Found an object gone unseen", extra={"service": str(key), "kind": kind.name})
                            self._queue.add(key)
            except ClusterError as error:
                log.warning("Could not audit", extra={"error": error.message})
            self._metrics.services(self._inventory.readiness())
            for key in self._inventory.services():
                self._queue.add_after(key, random.uniform(0.0, 30.0))  # noqa: S311

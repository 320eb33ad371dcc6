"""The loop: takes a service from the queue, compares what is declared with what exists, and closes the gap."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry import trace

from polyglot_operator import build
from polyglot_operator.api import names
from polyglot_operator.api.conditions import Reason
from polyglot_operator.api.model import InvalidService, PolyglotService, parse
from polyglot_operator.api.names import Component
from polyglot_operator.build.facts import TEMPLATE_REVISION, Capabilities, Facts, Images, MeshPhase
from polyglot_operator.build.pod import UnknownTemplateRevisionError
from polyglot_operator.cluster.capabilities import serves_istio
from polyglot_operator.cluster.client import Client
from polyglot_operator.cluster.errors import ClusterError, NamespaceTerminatingError, ThrottledError, UnavailableError
from polyglot_operator.cluster.inventory import Child, Inventory, Key
from polyglot_operator.cluster.kinds import CHILDREN, DEPLOYMENT, Kind, Ref
from polyglot_operator.reconcile import accelerators, mesh, workloads
from polyglot_operator.reconcile.acceptance import RECHECK, Sources, accept
from polyglot_operator.reconcile.execution import Executor, Outcome
from polyglot_operator.reconcile.plan import plan
from polyglot_operator.reconcile.queue import QueueClosed, WorkQueue
from polyglot_operator.reconcile.reporting import Reporter
from polyglot_operator.reconcile.status import MeshView, Observed, Verdict
from polyglot_operator.telemetry import Metrics

log = logging.getLogger(__name__)

Live = Mapping[Ref, Child]
Body = Mapping[str, Any]

_ACCEPTED: Final = Verdict("True", Reason.ACCEPTED, "the spec is valid and the cluster can honour it")
_NOT_ACCEPTED: Final = Verdict("False", Reason.NOT_ACCEPTED, "nothing is applied while the spec is not accepted")
_UNREACHABLE: Final = Verdict("False", Reason.APPLY_FAILED, "the API server can't be reached; trying again")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is the same for every service; `clusterwide` tells whether nodes and all pods may be read."""

    images: Images
    cluster_domain: str
    clusterwide: bool


@dataclass(frozen=True, slots=True)
class Result:
    """How a reconcile ended: whether it must be repeated with backoff, and after how many seconds to look anyway."""

    after: float | None = None
    failed: bool = False

    @property
    def name(self) -> str:
        """Value of the metric's label `result`, as in controller-runtime."""
        return "error" if self.failed else "success" if self.after is None else "requeue_after"


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was looked up before anything is built: the place in the mesh, and free accelerators while a pod waits."""

    mesh: MeshView
    free: accelerators.Free | None


DONE: Final = Result()
FAILED: Final = Result(failed=True)


@dataclass(frozen=True, slots=True)
class _PhaseSince:
    phase: MeshPhase
    since: float
    entered: bool  # by a step of this operator; False for a phase that the service was found in


class Loop:
    """Reconciles services, one at a time each, many at the same time."""

    def __init__(
        self,
        *,
        client: Client,
        inventory: Inventory,
        queue: WorkQueue[Key],
        reporter: Reporter,
        metrics: Metrics,
        tracer: trace.Tracer,
        surroundings: Surroundings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._inventory = inventory
        self._queue = queue
        self._reporter = reporter
        self._metrics = metrics
        self._tracer = tracer
        self._surroundings = surroundings
        self._clock = clock
        self._executor = Executor(client, inventory, metrics)
        self._sources = Sources(client, clock)
        self._phases: dict[str, _PhaseSince] = {}
        self._running: dict[Key, float] = {}
        self.capabilities = Capabilities()

    def longest_run(self) -> float:
        """Return for how many seconds the slowest reconcile of this moment has been running."""
        return max((self._clock() - began for began in self._running.values()), default=0.0)

    async def work(self) -> None:
        """Reconcile what the queue hands out until it is closed."""
        while True:
            try:
                key = await self._queue.get()
            except QueueClosed:
                return
            self._running[key] = self._clock()
            try:
                await self._process(key)
            finally:
                del self._running[key]
                self._queue.done(key)

    async def _process(self, key: Key) -> None:
        """Reconcile once, and decide when to look again."""
        self._metrics.depth(len(self._queue))
        with (
            self._metrics.reconciling(self._queue.waited(key)),
            self._tracer.start_as_current_span("reconcile") as span,
        ):
            span.set_attributes({"k8s.namespace.name": key.namespace, "polyglot.service": key.name})
            try:
                result = await self.reconcile(key)
            except NamespaceTerminatingError:
                log.debug("Left alone: its namespace is being deleted", extra={"service": str(key)})
                result = DONE
            except ClusterError as error:
                span.record_exception(error)
                log.warning("Could not reconcile", extra={"service": str(key), "error": error.message})
                result = FAILED
            except Exception as error:  # a bug on one service must not stop the others
                span.record_exception(error)
                log.exception("Reconcile failed by a bug", extra={"service": str(key)})
                result = FAILED
        self._metrics.reconciled(result.name)
        if result.failed:
            self._queue.retry(key)
        else:
            self._queue.succeeded(key)
        if result.after is not None:
            self._queue.add_after(key, result.after)

    async def reconcile(self, key: Key) -> Result:
        """Bring one service to what it declares, and say when to look again.

        Raises `ClusterError` when the API server can't answer.
        """
        body = self._inventory.service(key)
        if body is None:
            return self._forget(key)
        if "deletionTimestamp" in body["metadata"]:
            return DONE  # repairing while the garbage collector deletes would never end
        try:
            service = parse(body)
        except InvalidService as error:
            return Result(await self._reporter.report(key, body, self._unreadable(key, body, error)))

        accepted = accept(service.spec, self.capabilities, await self._sources.missing(service))
        view, settling = self._locate_in_mesh(service, body, accepted=accepted.holds)
        seen = _Seen(view, await self._count_free(service))
        if not accepted.holds:
            pause = await self._report(key, body, service, seen, accepted, _NOT_ACCEPTED)
            return Result(_soonest(pause, RECHECK))

        outcome = await self._apply(key, body, service, seen)
        pause = await self._report(key, body, service, seen, accepted, outcome.verdict)
        recount = RECHECK if seen.free else None  # others' pods, which come and go unwatched, change what is free
        again = 0.0 if outcome.again else None
        return Result(_soonest(pause, settling, recount, again), failed=not outcome.verdict.holds)

    async def _apply(self, key: Key, body: Body, service: PolyglotService, seen: _Seen) -> Outcome:
        """Apply, repair and prune."""
        live = self._inventory.children(key)
        try:
            desired = build.children(service, self._facts(service, seen, live))
        except UnknownTemplateRevisionError as error:
            return Outcome(refused=[str(error)])
        uid = service.metadata.uid
        steps = plan(desired, live, uid, self._executor.settled(key), _served(self.capabilities))
        try:
            return await self._executor.carry_out(key, uid, steps)
        except (UnavailableError, ThrottledError):
            await self._report(key, body, service, seen, _ACCEPTED, _UNREACHABLE)
            raise

    async def _report(  # noqa: PLR0917
        self, key: Key, body: Body, service: PolyglotService, seen: _Seen, accepted: Verdict, reconciled: Verdict
    ) -> float | None:
        """Observe what runs and write the status; return the seconds to wait where it is too early for that."""
        live, spec = self._inventory.children(key), service.spec
        runs = (
            workloads.observe(Component.INFERENCE, spec.inference, live),
            workloads.observe(Component.GATEWAY, spec.gateway, live),
        )
        observed = Observed(
            generation=service.metadata.generation,
            url=self._url(key),
            accepted=accepted,
            reconciled=reconciled,
            capabilities=self.capabilities,
            spec=spec,
            mesh=seen.mesh,
            workloads=runs,
            free=seen.free or await self._count_free(service),  # a pod may wait only since what was applied
        )
        return await self._reporter.report(key, body, observed)

    def _unreadable(self, key: Key, body: Body, error: InvalidService) -> Observed:
        """Return what can be said about a service whose spec can't be read."""
        refused = Verdict("False", Reason.INVALID_SPEC, str(error))
        generation = body["metadata"]["generation"]
        return Observed(generation, self._url(key), refused, _NOT_ACCEPTED, self.capabilities)

    def _locate_in_mesh(self, service: PolyglotService, body: Body, *, accepted: bool) -> tuple[MeshView, float | None]:
        """Tell where the service stands in the mesh and, during a switch, when to look again."""
        key, uid = Key(service.metadata.namespace, service.metadata.name), service.metadata.uid
        live, mode, now = self._inventory.children(key), service.spec.mesh.mode, self._clock()
        served = serves_istio(self.capabilities)
        want = mesh.wanted(mode, mesh.pinned_mode(live), served)
        seen = mesh.observed_phase(key.name, live, body["status"])
        known = self._phases.get(uid) if seen is not None else None
        settled = known is not None and now - known.since >= mesh.SETTLE
        current, sidecars = known.phase if known else seen, mesh.Sidecars.among(live)
        phase = mesh.next_phase(current, want, sidecars, settled=settled, accepted=accepted)
        if seen is not None and (known is None or known.phase != phase):
            self._phases[uid] = known = _PhaseSince(phase, now, entered=known is not None)
        spreading = known is not None and known.entered and now - known.since < mesh.SETTLE
        view = MeshView(mode, phase, want, served, spreading=spreading)
        return view, None if view.arrived else mesh.SETTLE

    def _facts(self, service: PolyglotService, seen: _Seen, live: Live) -> Facts:
        """Return what the builders must know besides the spec."""
        return Facts(
            owner_uid=service.metadata.uid,
            images=self._surroundings.images,
            capabilities=self.capabilities,
            mesh=seen.mesh.phase,
            cluster_domain=self._surroundings.cluster_domain,
            template_revision=_template_revision(live),
            short_of_devices=seen.free.short if seen.free else 0,
        )

    async def _count_free(self, service: PolyglotService) -> accelerators.Free | None:
        """Count free accelerators while a pod waits; None when none waits, or where nodes can't be read."""
        inference, key = service.spec.inference, Key(service.metadata.namespace, service.metadata.name)
        if inference.accelerator is None or not self._surroundings.clusterwide:
            return None
        if not workloads.observe(Component.INFERENCE, inference, self._inventory.children(key)).unschedulable:
            return None
        return await accelerators.count_free(self._client, inference, inference.accelerator, key)

    def _url(self, key: Key) -> str:
        return names.url(key.name, key.namespace, self._surroundings.cluster_domain)

    def _forget(self, key: Key) -> Result:
        """Drop what is remembered about a service that is gone; the garbage collector has its children."""
        self._executor.forget(key)
        self._reporter.forget(key)
        return DONE


def _served(capabilities: Capabilities) -> tuple[Kind, ...]:
    return tuple(kind for kind in CHILDREN if not kind.is_mesh or kind.api_version in (capabilities.istio or ()))


def _template_revision(live: Live) -> int:
    """Return the revision that the Deployments are pinned to; new services get the operator's own."""
    annotations = (child.view["metadata"]["annotations"] for ref, child in live.items() if ref.kind == DEPLOYMENT)
    pinned = (found.get(names.TEMPLATE_REVISION_ANNOTATION) for found in annotations)
    return next((int(revision) for revision in pinned if revision is not None), TEMPLATE_REVISION)


def _soonest(*delays: float | None) -> float | None:
    return min((delay for delay in delays if delay is not None), default=None)

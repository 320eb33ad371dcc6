"""Several processes that serve the same models, one for each address of `grpc.listen`, and the one that watches them.

A Python process uses one CPU for its calls; workers use more. Each has a loop, a server and the models of its own. They
are spawned, not forked: gRPC does not survive a fork. All become Ready together; when one ends, all do.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Final

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from polyglot_inference.settings import Settings
from polyglot_inference.telemetry.metrics import serve_metrics

_LOADED: Final = "loaded"
_READY: Final = "ready"
_SCRAPE: Final = "scrape"
_SCRAPE_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker process is given: its number and its lines to the watching process."""

    number: int
    control: Connection
    scrapes: Connection

    def failed(self, why: str) -> None:
        """Tell why this worker ends."""
        with contextlib.suppress(OSError):
            self.control.send(why)

    def loaded(self) -> None:
        """Tell that all models are loaded."""
        with contextlib.suppress(OSError):
            self.control.send(_LOADED)

    def serve(self, registry: CollectorRegistry, ready: Callable[[], object]) -> None:
        """Answer scrapes, and call `ready` when all workers have loaded, on a thread of its own."""
        threading.Thread(target=self._serve, args=(registry, ready), name="worker", daemon=True).start()

    def _serve(self, registry: CollectorRegistry, ready: Callable[[], object]) -> None:
        try:
            while True:
                spoken = wait([self.control, self.scrapes])
                if self.control in spoken and self.control.recv() == _READY:
                    ready()
                if self.scrapes in spoken and self.scrapes.recv() == _SCRAPE:
                    self.scrapes.send(list(registry.collect()))
        except (EOFError, OSError):  # the watching process is gone: nobody would end this one
            os.kill(os.getpid(), signal.SIGTERM)


RunWorker = Callable[[Worker], None]


@dataclass(slots=True)
class _Watched:
    number: int
    process: SpawnProcess
    control: Connection
    scrapes: Connection
    lock: threading.Lock = field(default_factory=threading.Lock)
    loaded: bool = False
    why: str = ""

    def scraped(self) -> Iterable[Metric]:
        """The worker's metrics; nothing when it does not answer."""
        with self.lock, contextlib.suppress(OSError, EOFError):
            while self.scrapes.poll():  # an answer that came too late for the last scrape
                self.scrapes.recv()
            self.scrapes.send(_SCRAPE)
            if self.scrapes.poll(_SCRAPE_SECONDS):
                metrics: list[Metric] = self.scrapes.recv()
                return metrics
        return []


class _Metrics(Collector):
    """The metrics of all workers, told apart by a label `worker`."""

    def __init__(self, workers: Iterable[_Watched]) -> None:
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for worker in self._workers:
            for metric in worker.scraped():
                family = families.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                family.samples += [_labelled(sample, worker.number) for sample in metric.samples]
        yield from families.values()


def _labelled(sample: Sample, number: int) -> Sample:
    return sample._replace(labels={**sample.labels, "worker": str(number)})


class Workers:
    """Starts the workers, makes them Ready together, passes signals on and ends with their worst status.

    Parameters
    ----------
    settings
        Their number is that of `grpc.listen`.
    run
        What a worker does; it is sent to the worker's process.
    """

    def __init__(self, settings: Settings, run: RunWorker) -> None:
        self._settings = settings
        self._signals = 0
        self._first_to_fail: _Watched | None = None
        self._workers = [_started(number, run) for number in range(len(settings.grpc.listen))]

    def watch(self) -> int:
        """Until all have ended; returns the exit status.

        Raises
        ------
        OSError
            The port of the metrics is taken or its address not ours.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: self._end_all())
        try:
            self._serve_metrics()
        except OSError:
            self._end_all()
            raise
        finally:
            self._wait()
        statuses = [self._status(worker) for worker in self._workers]
        if (failed := self._first_to_fail) is None:
            return max(statuses)
        # The last line of the log becomes the pod's termination message.
        status = self._status(failed)
        _log.error(
            "Cannot serve: worker %d ended with status %d%s; the others were ended",
            failed.number,
            status,
            f": {failed.why}" if failed.why else "",
        )
        return max(1, *statuses)

    def _serve_metrics(self) -> None:
        registry = CollectorRegistry()
        registry.register(_Metrics(self._workers))
        scrape = self._settings.metrics
        try:
            server = serve_metrics(registry, scrape.host, scrape.port)
        except OSError as error:
            raise OSError(f"metrics: cannot listen on {scrape.host}:{scrape.port}: {error}") from error
        _log.info(
            "Watching workers", extra={"workers": len(self._workers), "metrics": f"{scrape.host}:{server.server_port}"}
        )

    def _wait(self) -> None:
        running = {worker.process.sentinel: worker for worker in self._workers}
        talking = {worker.control: worker for worker in self._workers}
        while running:
            for found in wait([*running, *talking]):
                if found in running:
                    self._ended(running.pop(found))
                else:
                    self._hear(talking, found)  # type: ignore[arg-type]

    def _hear(self, talking: dict[Connection, _Watched], line: Connection) -> None:
        worker = talking[line]
        try:
            said = line.recv()
        except (EOFError, OSError):
            del talking[line]
            return
        if said != _LOADED:
            worker.why = said
            return
        worker.loaded = True
        if all(one.loaded for one in self._workers):
            for one in self._workers:
                with contextlib.suppress(OSError):
                    one.control.send(_READY)

    def _ended(self, worker: _Watched) -> None:
        if not self._signals:
            self._first_to_fail = worker
            while not worker.why and worker.control.poll():  # its last words may come after its end
                try:
                    said = worker.control.recv()
                except (EOFError, OSError):
                    break
                worker.why = "" if said == _LOADED else said
            self._end_all()

    def _end_all(self) -> None:
        self._signals += 1
        for worker in self._workers:
            if worker.process.is_alive():
                worker.process.terminate()

    def _status(self, worker: _Watched) -> int:
        code = worker.process.exitcode or 0
        # A worker that was told to end before it could listen to signals.
        if code == -signal.SIGTERM and self._signals == 1 and worker is not self._first_to_fail:
            return 0
        return code if code >= 0 else 128 - code


def _started(number: int, run: RunWorker) -> _Watched:
    spawn = multiprocessing.get_context("spawn")
    control, workers_control = spawn.Pipe()
    scrapes, workers_scrapes = spawn.Pipe()
    process = spawn.Process(
        target=run, args=(Worker(number, workers_control, workers_scrapes),), name=f"worker-{number}"
    )
    process.start()
    # The worker has them now; kept here they would hide its end, and ours from it.
    workers_control.close()
    workers_scrapes.close()
    return _Watched(number, process, control, scrapes)

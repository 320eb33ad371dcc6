"""The process: `polyglot-inference --config FILE`.

One event loop (uvloop), one gRPC server; with several addresses, one process for each (`workers.py`). It listens
before the models are loaded, so that probes see Starting; SIGTERM and SIGINT drain it. Exit status: 0 after a drain, 1
when a model or a port cannot be had, 2 for wrong settings, 143 when a second signal cuts the drain short.
"""

import argparse
import asyncio
import contextlib
import functools
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final, NoReturn

import grpc
import uvloop
from grpc_health.v1 import health_pb2_grpc

from polyglot_inference.errors import ModelLoadError
from polyglot_inference.lifecycle import InFlight, Lifecycle, State
from polyglot_inference.listening import listen
from polyglot_inference.protocol.access import Access
from polyglot_inference.protocol.administration import Administration
from polyglot_inference.protocol.health import Health
from polyglot_inference.protocol.memory import EXTENSION, SharedMemoryMethods
from polyglot_inference.protocol.service import InferenceService
from polyglot_inference.repository.models import ModelRepository
from polyglot_inference.runtime.cpus import available_cpus
from polyglot_inference.runtime.shared_memory import SharedMemory
from polyglot_inference.settings import GrpcSettings, Settings, SettingsError
from polyglot_inference.telemetry.logs import LogControl, configure_logging
from polyglot_inference.telemetry.metrics import Metrics, serve_metrics
from polyglot_inference.telemetry.sampling import sampler_from_environment
from polyglot_inference.telemetry.traces import Tracing, exporter_from_environment
from polyglot_inference.workers import Worker, Workers

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_SETTINGS: Final = 2
EXIT_CUT_SHORT: Final = 128 + signal.SIGTERM

# An answer is handed to grpc-core when its call counts as done; this is the time to send it.
_SEND_SECONDS: Final = 1.0
_EXPORT_SECONDS: Final = 3.0
_LARGEST_GRPC_LIMIT: Final = 2**31 - 1

_log = logging.getLogger(__name__)


class InferenceServer:
    """All parts of the process, wired.

    Parameters
    ----------
    settings
        What to serve and where.
    tracing
        Makes spans; closed by its owner.
    logs
        The log, for callers who change its settings.
    worker
        Which of several processes this is; None where it is the only one.
    """

    def __init__(self, settings: Settings, tracing: Tracing, logs: LogControl, worker: Worker | None = None) -> None:
        self.lifecycle = Lifecycle()
        self.in_flight = InFlight()
        self.metrics = Metrics(self.in_flight)
        self.grpc_address = ""
        self.metrics_port = 0
        self._settings = settings
        self._worker = worker
        cpus = settings.runtime.cpus or available_cpus()
        self._repository = ModelRepository(settings.models, settings.queue, cpus, self.metrics, tracing)
        self._access = Access(settings.administration)
        self._administration = Administration(self._repository, self.lifecycle, self._access, tracing, logs)
        shared = settings.shared_memory
        memory = SharedMemory(shared.key_prefix, shared.max_bytes) if shared.enabled else None
        self._memory = SharedMemoryMethods(memory, self.metrics)
        self._service = InferenceService(
            self._repository,
            self.lifecycle,
            self.in_flight,
            self.metrics,
            tracing,
            extensions=(*Administration.EXTENSIONS, *([EXTENSION] if memory is not None else [])),
            memory=memory,
        )
        self._server = grpc.aio.server(options=_channel_options(settings.grpc))
        self._all_loaded = asyncio.Event()
        self._cleanup = contextlib.ExitStack()

    async def start(self) -> None:
        """Listen, with every model still to load.

        Raises
        ------
        OSError
            A port is taken or its address not ours.
        """
        health = Health()
        health_pb2_grpc.add_HealthServicer_to_server(health, self._server)
        others = {**self._administration.methods(), **self._memory.methods()}
        handlers = self._service.handlers(self._access, self._settings.grpc.max_message_bytes, others)
        self._server.add_generic_rpc_handlers(handlers)
        await self.lifecycle.observe(health.observe_state)
        await self.lifecycle.observe(self.metrics.observe_state)
        await self.lifecycle.observe(_log_state)
        self._listen()
        await self._server.start()

    async def load(self) -> None:
        """Load the models and become Ready.

        Raises
        ------
        ModelLoadError
            A model cannot be served.
        """
        await self._repository.load_all()
        if self._worker:
            self._worker.loaded()
            await self._all_loaded.wait()
        await self.lifecycle.ready()

    async def drain(self, timeout_seconds: float) -> None:
        """Refuse new calls and wait for those in flight, at most this long."""
        await self.lifecycle.drain()
        try:
            await asyncio.wait_for(self.in_flight.idle(), timeout_seconds)
        except TimeoutError:
            _log.warning("Cancelling the calls still in flight", extra={"timeout_seconds": timeout_seconds})

    async def stop(self, grace_seconds: float | None) -> None:
        """Stop listening; calls in flight are cancelled after the grace."""
        await self._server.stop(grace_seconds)
        self._repository.close()
        self._cleanup.close()

    def _listen(self) -> None:
        self.grpc_address = listen(self._server, self._settings.grpc.listen[0])
        if self._worker:
            loop = asyncio.get_running_loop()
            ready = functools.partial(loop.call_soon_threadsafe, self._all_loaded.set)
            self._worker.serve(self.metrics.registry, ready)
            _log.info("Listening", extra={"grpc": self.grpc_address})
            return
        scrape = self._settings.metrics
        try:
            metrics_server = serve_metrics(self.metrics.registry, scrape.host, scrape.port)
        except OSError as error:
            raise OSError(f"metrics: cannot listen on {scrape.host}:{scrape.port}: {error}") from error
        self._cleanup.callback(metrics_server.server_close)
        self._cleanup.callback(metrics_server.shutdown)
        self.metrics_port = metrics_server.server_port
        _log.info(
            "Listening",
            extra={"grpc": self.grpc_address, "metrics": f"{scrape.host}:{self.metrics_port}"},
        )


async def serve(settings: Settings, tracing: Tracing, logs: LogControl, worker: Worker | None = None) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status."""
    signals: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, number)

    server = InferenceServer(settings, tracing, logs, worker)
    try:
        await server.start()
        if await _before_signal(server.load(), signals):
            await signals.get()
        drained = await _before_signal(server.drain(settings.drain.timeout_seconds), signals)
        await server.stop(_SEND_SECONDS if drained else None)
    except (ModelLoadError, OSError) as error:
        await server.stop(None)
        # The last line of the log becomes the pod's termination message.
        _log.error("Cannot serve: %s", error)
        if worker:
            worker.failed(str(error))
        return EXIT_FAILED
    return EXIT_OK if drained else EXIT_CUT_SHORT


async def _before_signal(work: Coroutine[Any, Any, None], signals: "asyncio.Queue[int]") -> bool:
    """Whether `work` was done when a signal came; if not, it is cancelled and the signal taken."""
    task = asyncio.ensure_future(work)
    signalled = asyncio.ensure_future(signals.get())
    await asyncio.wait((task, signalled), return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        if signalled.done():  # at the same time: the signal is for what comes next
            signals.put_nowait(signalled.result())
        signalled.cancel()
        task.result()
        return True
    task.cancel()
    return False


async def _log_state(state: State) -> None:
    _log.info("State is %s", state.value)


def _channel_options(settings: GrpcSettings) -> list[tuple[str, int]]:
    return [
        # Twice our limit: up to there the caller gets our error, which names the setting; beyond it grpc-core cuts
        # the call off, unread.
        ("grpc.max_receive_message_length", min(2 * settings.max_message_bytes, _LARGEST_GRPC_LIMIT)),
        ("grpc.max_send_message_length", _LARGEST_GRPC_LIMIT),
        # Callers connect anew, so that they find replicas and workers that were added. Without a grace, which stays
        # infinite, no call is cut off: those in flight are finished on the old connection.
        ("grpc.max_connection_age_ms", round(settings.max_connection_age.total_seconds() * 1000)),
        # A second process on the same port must fail, not share it.
        ("grpc.so_reuseport", 0),
        # Clients may ping idle connections every 10 s; by default grpc-core closes the connection of one that does
        # ("too_many_pings").
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ]


def _report_settings(error: SettingsError) -> int:
    for line in str(error).splitlines():
        print(f"polyglot-inference: {line}", file=sys.stderr)
    return EXIT_SETTINGS


def main() -> NoReturn:
    """Entry point of the `polyglot-inference` command."""
    parser = argparse.ArgumentParser(
        prog="polyglot-inference", description="Serve models over the Open Inference Protocol v2 (gRPC)."
    )
    parser.add_argument(
        "--config", type=Path, required=True, help="YAML file of settings; POLYGLOT_INFERENCE__… variables override it"
    )
    parser.add_argument(
        "--end-with-stdin",
        action="store_true",
        help="drain and end when standard input does: a parent that is killed leaves no server behind",
    )
    arguments = parser.parse_args()
    config: Path = arguments.config
    try:
        settings = Settings.load(config)
    except SettingsError as error:
        sys.exit(_report_settings(error))
    if arguments.end_with_stdin:
        threading.Thread(target=_end_with_stdin, name="stdin", daemon=True).start()
    if len(settings.grpc.listen) == 1:
        _run(settings, None)
    configure_logging(settings.log.level)
    try:
        sys.exit(Workers(settings, functools.partial(run_worker, config)).watch())
    except OSError as error:
        _log.error("Cannot serve: %s", error)
        sys.exit(EXIT_FAILED)


def _end_with_stdin() -> None:
    with contextlib.suppress(OSError):  # a broken stream has ended, too
        while os.read(0, 4096):
            pass
    os.kill(os.getpid(), signal.SIGTERM)


def run_worker(config: Path, worker: Worker) -> NoReturn:
    """Be one of several processes."""
    # Ctrl-C is for the watching process, which passes it on; twice would cut the drain short.
    os.setpgid(0, 0)
    _number_log_records(worker.number)
    _run(Settings.load(config).of_worker(worker.number, available_cpus()), worker)


def _run(settings: Settings, worker: Worker | None) -> NoReturn:
    try:
        tracing = Tracing(exporter_from_environment(os.environ), sampler_from_environment(os.environ))
    except SettingsError as error:
        sys.exit(_report_settings(error))
    logs = configure_logging(settings.log.level)
    # What is imported stays, and is far more than what calls leave behind: to go through it again and again took up to
    # a fifth of the CPU time of a busy stream. Models are not part of it: they may be unloaded.
    gc.freeze()
    status = uvloop.run(serve(settings, tracing, logs, worker))
    if not tracing.close(_EXPORT_SECONDS):
        _log.warning("Gave up the last spans: the collector did not take them within %s s", _EXPORT_SECONDS)
    logging.shutdown()
    # A model that still runs must not hold the process: the interpreter would wait for its thread, and no one can
    # stop it.
    os._exit(status)


def _number_log_records(worker: int) -> None:
    made = logging.getLogRecordFactory()

    def numbered(*arguments: Any, **named: Any) -> logging.LogRecord:
        record = made(*arguments, **named)
        record.worker = worker
        return record

    logging.setLogRecordFactory(numbered)

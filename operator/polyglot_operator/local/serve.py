"""`polyglot serve`: gateway and inference server as local processes, from their start to the end of their drain."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Final

from pydantic.alias_generators import to_camel

from polyglot_operator.api.base import Part
from polyglot_operator.api.model import PolyglotService
from polyglot_operator.api.names import Component
from polyglot_operator.build import settings
from polyglot_operator.build.lifecycle import DRAIN_SECONDS
from polyglot_operator.local import environment, ports, program, sources, traffic
from polyglot_operator.local.program import Program
from polyglot_operator.local.scratch import Scratch, scratch
from polyglot_operator.local.screen import Screen
from polyglot_operator.manifests import InputError, open_text, services

GATEWAY: Final = "polyglot-gateway"
INFERENCE: Final = "polyglot-inference"

_READY_POLL_SECONDS: Final = 0.1
_TERMINAL_SECONDS: Final = 1.0
_PLAIN_SECONDS: Final = 10.0
# The programs' own drain, and the time that each takes to flush and end.
_PATIENCE_SECONDS: Final = DRAIN_SECONDS + 10
_INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for on the command line."""

    file: Path
    models: Mapping[str, Path]
    port: int
    gateway: str
    inference: str
    shared_memory: bool


def serve(request: Request) -> int:
    """Serve until a signal comes; return the exit status: 0 after a drain, 130 when a second signal cut it short.

    Raises `InputError` when the file, a model, a port or a program can't be used, and when a program ends by itself.
    """
    service = _service(request.file)
    programs = {
        Component.INFERENCE: program.locate(
            request.inference, "it comes with the package of services/python-inference; name it by --inference PATH"
        ),
        Component.GATEWAY: program.locate(
            request.gateway,
            "`make .bin/polyglot-gateway` builds it from services/go-gateway; name it by --gateway PATH",
        ),
    }
    screen = Screen(sys.stdout)
    with scratch(screen.show) as own:
        folders = sources.folders(service, request.file, request.models, own.folder)
        place = _place(request, service, folders, own.folder)
        session = _Session(service, place, own, screen)
        try:
            return asyncio.run(session.run(programs))
        finally:
            screen.close()


def _service(file: Path) -> PolyglotService:
    with open_text(file) as source:
        found = list(services(source, str(file)))
    if len(found) > 1:
        names = ", ".join(service.metadata.name for service in found)
        raise InputError(
            f"{file}: holds {len(found)} PolyglotServices ({names}); keep the one to serve in a file alone"
        )
    return found[0]


def _place(request: Request, service: PolyglotService, folders: Mapping[str, Path], folder: Path) -> settings.Place:
    """Return where the programs listen: sockets between them, ports of this machine for callers."""
    taken = ports.take(request.port)
    sockets = tuple(str(folder / f"inference-{i}.sock") for i in range(service.spec.inference.workers))
    return settings.Place(
        rest=f"{ports.HOST}:{taken.rest}",
        grpc=f"{ports.HOST}:{taken.grpc}",
        admin=f"{ports.HOST}:{taken.admin}",
        listen=tuple(f"unix:{socket}" for socket in sockets),
        metrics_host=ports.HOST,
        metrics_port=taken.metrics,
        folders=folders,
        sockets=sockets,
        administration="Full",  # nobody but the users of this machine reach it
        shared_memory=request.shared_memory,
    )


class _Session:
    """One run of the two programs."""

    def __init__(self, service: PolyglotService, place: settings.Place, own: Scratch, screen: Screen) -> None:
        self._service = service
        self._place = place
        self._gateway_metrics = f"http://{place.admin}/metrics"
        self._inference_metrics = f"http://{place.metrics_host}:{place.metrics_port}/metrics"
        self._own = own
        self._screen = screen

    async def run(self, programs: Mapping[Component, str]) -> int:
        """Run both programs until a signal comes, and drain them; return the exit status.

        Raises `InputError` when one ends by itself.
        """
        signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, number)
        running: list[Program] = []
        try:
            for component, path in programs.items():
                running.append(await self._start(component, path))
            ended = await self._watch(running, signals)
        finally:
            drained = await _drain(running[::-1], signals)
        if ended:
            raise InputError(ended.last_words())
        return 0 if drained else _INTERRUPTED

    async def _start(self, component: Component, path: str) -> Program:
        config = self._own.folder / f"{component}.yaml"
        config.write_text(settings.render(component, self._service.spec.models, self._place), encoding="utf-8")
        variables = environment.build(self._service, component)
        command = [path, "--config", str(config), "--end-with-stdin"]
        return await Program.start(component, command, variables, self._screen.show, self._own.lock)

    async def _watch(self, running: Sequence[Program], signals: asyncio.Queue[signal.Signals]) -> Program | None:
        """Report until a signal comes, and return None, or until a program ends by itself, and return that."""
        reporting = asyncio.create_task(self._report())
        signalled = asyncio.create_task(signals.get())
        ends = [asyncio.create_task(one.wait()) for one in running]
        done, pending = await asyncio.wait([reporting, signalled, *ends], return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        if reporting in done:
            reporting.result()  # it ends by a bug alone
        return next((one for one in running if one.ended), None)

    async def _report(self) -> None:
        """Say what is served and where, then what passes through."""
        url = f"http://{self._place.rest}"
        if elsewhere := _left_to_a_cluster(self._service):
            self._screen.show(f"not on this machine: {', '.join(elsewhere)}")
        await _until(1, self._inference_metrics, "polyglot_inference_state", state="Ready")
        await _until(len(self._place.sockets), self._gateway_metrics, "polyglot_gateway_backend_state", state="ready")
        for model in self._service.spec.models:
            self._screen.show(f"serving {model.name}: {url}/v2/models/{model.name}")
        self._screen.show(
            f"ready: REST {url}, gRPC {self._place.grpc}, metrics {self._gateway_metrics} "
            f"and {self._inference_metrics}; Ctrl-C drains and ends"
        )
        before = traffic.Counts(time.monotonic())
        while True:
            await asyncio.sleep(_TERMINAL_SECONDS if self._screen.is_terminal else _PLAIN_SECONDS)
            now = traffic.Counts.read(await _page(self._gateway_metrics), time.monotonic())
            if self._screen.is_terminal or now.calls > before.calls:
                self._screen.update(traffic.summary(before, now))
            before = now


async def _until(value: float, url: str, metric: str, **labels: str) -> None:
    """Wait until a metric has at least a value."""
    while traffic.total(await _page(url), metric, **labels) < value:  # noqa: ASYNC110  # of another process
        await asyncio.sleep(_READY_POLL_SECONDS)


async def _page(url: str) -> str:
    """Return a page of metrics; nothing when the program doesn't listen yet, or no longer."""
    try:
        return await asyncio.to_thread(traffic.fetch, url)
    except (OSError, HTTPException):
        return ""


async def _drain(running: Sequence[Program], signals: asyncio.Queue[signal.Signals]) -> bool:
    """End programs one after the other; at a second signal, or when one takes too long, end all at once.

    Return whether each ended in its own time.
    """
    impatient = asyncio.create_task(signals.get())
    try:
        for one in running:
            one.signal(signal.SIGTERM)
            ended = asyncio.create_task(one.wait())
            await asyncio.wait({ended, impatient}, timeout=_PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                return False
        return True
    finally:
        impatient.cancel()
        for one in running:
            one.signal(signal.SIGKILL)
            await one.wait()


def _left_to_a_cluster(service: PolyglotService) -> list[str]:
    """Return the fields that the spec sets and that only a cluster can honour."""
    spec = service.spec
    parts: dict[str, tuple[Part, set[str]]] = {
        "": (spec, {"models", "inference", "gateway"}),
        "inference.": (spec.inference, {"workers", "env"}),
        "gateway.": (spec.gateway, {"env"}),
    }
    return [
        prefix + to_camel(name)
        for prefix, (part, honoured) in parts.items()
        for name in sorted(part.model_fields_set - honoured)
    ]

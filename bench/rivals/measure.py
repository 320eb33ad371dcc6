"""One server, started; each of its protocols verified, then measured with every number of clients."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bench import processes
from bench.command import BenchError
from bench.rivals import h2load
from bench.rivals.client import CallError, verified
from bench.rivals.h2load import Aim, Load, NobodyAnsweredError
from bench.rivals.peers.base import Peer, Running, Variant
from bench.rivals.wire import Request
from bench.rivals.workloads import Workload, WrongAnswerError

START_SECONDS = 90
#: A server is at rest when it takes less than this share of one CPU; it is waited for at most so long.
REST_SHARE, REST_SECONDS = 0.15, 8.0
#: How much longer a server is measured, once, that has answered nobody in the planned time.
PATIENCE = 5


@dataclass(frozen=True)
class Timing:
    """How long each measurement takes, and what precedes it unmeasured."""

    warm_up: float
    seconds: float


@dataclass(frozen=True)
class Measurement:
    """One cell: CPU in microseconds per call by program, with its children; memory in bytes."""

    peer: str
    variant: str
    workers: int
    workload: str
    protocol: str
    clients: int
    round: int
    load: Load
    #: Requests of the model per call: more than one in a stream.
    messages: int
    cpu: Mapping[str, float]
    resident: int
    proportional: int


@dataclass(frozen=True)
class Failure:
    """What could not be measured, and why. `protocol` is empty where the server didn't start at all."""

    peer: str
    variant: str
    workload: str
    protocol: str
    why: str
    #: The ends of what the server's programs printed; paths of one machine, so it is shown and not kept.
    printed: str = ""


def measure(
    peer: Peer,
    variant: Variant,
    workload: Workload,
    *,
    wanted: Mapping[str, tuple[int, ...]],
    timing: Timing,
    number: int,
    folder: Path,
) -> Iterator[Measurement | Failure]:
    """Start a server and measure the wanted protocols that it speaks with their numbers of clients."""

    def failure(protocol: str, why: object) -> Failure:
        return Failure(peer.name, variant.title, workload.name, protocol, str(why))

    with peer.launch(variant, workload, folder) as running:
        spoken = [endpoint for endpoint in running.endpoints if endpoint.wire.protocol in wanted]
        calls = [(endpoint, endpoint.wire.request(workload)) for endpoint in spoken]
        try:
            wait_until_right(running, calls[0][1], calls[0][0].address, workload)
        except BenchError as error:
            printed = "\n".join(f"--- {role}\n{program.tail()}" for role, program in running.programs.items())
            yield replace(failure("", error), printed=printed)
            return
        for endpoint, request in calls:
            try:
                aim = Aim(request, endpoint.address, verified(request, endpoint.address, workload))
            except (CallError, WrongAnswerError) as error:
                yield failure(request.protocol, error)
                continue
            for clients in wanted[request.protocol]:
                try:
                    load, cpu = _loaded(running, aim, clients, timing, folder)
                except BenchError as error:
                    yield failure(request.protocol, f"{clients} clients: {error}")
                    continue
                memory = [processes.memory(program.popen.pid) for program in running.programs.values()]
                yield Measurement(
                    peer.name, variant.title, variant.workers, workload.name, request.protocol, clients, number,
                    load, request.messages, cpu,
                    sum(each.resident for each in memory), sum(each.proportional for each in memory),
                )  # fmt: skip


def wait_until_right(running: Running, request: Request, address: str, workload: Workload) -> None:
    """Wait for the first right answer.

    Raises
    ------
    BenchError
        A program ended, or there was none in time.
    """
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            verified(request, address, workload)
        except (CallError, WrongAnswerError) as error:
            last = error
        else:
            return
        ended = [role for role, program in running.programs.items() if program.ended()]
        if ended or time.monotonic() > deadline:
            why = f"{', '.join(ended)} ended" if ended else f"no right answer within {START_SECONDS} s"
            raise BenchError(f"{why}; last: {last}")
        time.sleep(0.2)


def _loaded(running: Running, aim: Aim, clients: int, timing: Timing, folder: Path) -> tuple[Load, dict[str, float]]:
    """Warm up, then measure, once what was sent before is done; a server that answers nobody gets more time, once."""
    h2load.warm_up(aim, clients, timing.warm_up, folder)
    try:
        return _measured(running, aim, clients, timing.seconds, folder)
    except NobodyAnsweredError:
        return _measured(running, aim, clients, PATIENCE * timing.seconds, folder)


def _measured(running: Running, aim: Aim, clients: int, seconds: float, folder: Path) -> tuple[Load, dict[str, float]]:
    _rest(running)
    before = _cpu(running)
    load = h2load.send(aim, clients, seconds, folder)
    # What h2load left unanswered at its end is work that the answered calls didn't need: it is not waited for here.
    after = _cpu(running)
    calls = load.requests + load.errors
    per_call = {role: 1e6 * processes.cpu_between(before[role], after[role]) / calls for role in after}
    _rest(running)
    return load, per_call


def _cpu(running: Running) -> dict[str, dict[int, float]]:
    return {role: processes.cpu_seconds(program.popen.pid) for role, program in running.programs.items()}


def _rest(running: Running) -> None:
    """Wait until the server has nothing more to do, or for as long as we have."""
    deadline = time.monotonic() + REST_SECONDS
    step = 0.1
    before = _cpu(running)
    while time.monotonic() < deadline:
        time.sleep(step)
        after = _cpu(running)
        if sum(processes.cpu_between(before[role], after[role]) for role in after) < REST_SHARE * step:
            return
        before = after

"""One server, started; each of its protocols verified, then measured with every number of clients."""

from __future__ import annotations

import time
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
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


class NotStartedError(BenchError):
    """A server did not come to answer; `printed` has the ends of what its programs printed."""

    def __init__(self, why: object, printed: str) -> None:
        super().__init__(str(why))
        self.printed = printed


@dataclass(frozen=True)
class Server:
    """A server that is up and has answered rightly."""

    peer: Peer
    variant: Variant
    workload: Workload
    running: Running
    folder: Path

    def aim(self, protocol: str) -> Aim:
        """Verify one call by an ordinary client and return what is to be sent from now on.

        Raises
        ------
        CallError, WrongAnswerError
            There is no answer, or it is wrong.
        """
        endpoint = next(each for each in self.running.endpoints if each.wire.protocol == protocol)
        request = endpoint.wire.request(self.workload)
        return Aim(request, endpoint.address, verified(request, endpoint.address, self.workload))

    def warm_up(self, aim: Aim, clients: int, seconds: float) -> None:
        """Call it unmeasured."""
        h2load.warm_up(aim, clients, seconds, self.folder)

    def measure(self, aim: Aim, clients: int, seconds: float, number: int) -> Measurement:
        """Measure a round, once what was sent before is done; a server that answers nobody gets more time, once."""
        try:
            load, cpu = self._loaded(aim, clients, seconds)
        except NobodyAnsweredError:
            load, cpu = self._loaded(aim, clients, PATIENCE * seconds)
        memory = [processes.memory(program.popen.pid) for program in self.running.programs.values()]
        return Measurement(
            self.peer.name, self.variant.title, self.variant.workers, self.workload.name, aim.request.protocol, clients,
            number, load, aim.request.messages, cpu,
            sum(each.resident for each in memory), sum(each.proportional for each in memory),
        )  # fmt: skip

    def _loaded(self, aim: Aim, clients: int, seconds: float) -> tuple[Load, dict[str, float]]:
        _rest(self.running)
        before = _cpu(self.running)
        load = h2load.send(aim, clients, seconds, self.folder)
        # What h2load left unanswered at its end is work that the answered calls didn't need: it is not waited for here.
        after = _cpu(self.running)
        calls = load.requests + load.errors
        per_call = {role: 1e6 * processes.cpu_between(before[role], after[role]) / calls for role in after}
        _rest(self.running)
        return load, per_call


@contextmanager
def started(
    peer: Peer, variant: Variant, workload: Workload, protocols: Container[str], folder: Path
) -> Iterator[Server]:
    """Run a server for the length of a block, which begins once it answers the first of these protocols.

    Raises
    ------
    NotStartedError
        A program ended, or there was no right answer in time.
    """
    with peer.launch(variant, workload, folder) as running:
        first = next(endpoint for endpoint in running.endpoints if endpoint.wire.protocol in protocols)
        try:
            wait_until_right(running, first.wire.request(workload), first.address, workload)
        except BenchError as error:
            printed = "\n".join(f"--- {role}\n{program.tail()}" for role, program in running.programs.items())
            raise NotStartedError(error, printed) from error
        yield Server(peer, variant, workload, running, folder)


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

    try:
        with started(peer, variant, workload, wanted, folder) as server:
            for protocol in [each.wire.protocol for each in server.running.endpoints if each.wire.protocol in wanted]:
                try:
                    aim = server.aim(protocol)
                except (CallError, WrongAnswerError) as error:
                    yield failure(protocol, error)
                    continue
                for clients in wanted[protocol]:
                    try:
                        server.warm_up(aim, clients, timing.warm_up)
                        yield server.measure(aim, clients, timing.seconds, number)
                    except BenchError as error:
                        yield failure(protocol, f"{clients} clients: {error}")
    except NotStartedError as error:
        yield replace(failure("", error), printed=error.printed)


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

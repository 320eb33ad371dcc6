"""What the targets are judged by: our server and the rival of each, both up, called in turn.

The cells of a table are minutes apart, and a machine's speed can change meanwhile; the ratio of neighbours stays.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.command import BenchError
from bench.rivals.client import CallError
from bench.rivals.h2load import Aim
from bench.rivals.measure import Failure, NotStartedError, Server, Timing, started
from bench.rivals.peers.base import Peer
from bench.rivals.statistics import Cell
from bench.rivals.targets import TARGETS, NotMeasuredError, Pair, Target
from bench.rivals.workloads import Workload, WrongAnswerError


@dataclass(frozen=True)
class Pairing:
    """Calls the two servers of each target in turn."""

    peers: Mapping[str, Peer]
    workloads: Mapping[str, Workload]
    timing: Timing
    turns: int

    def measure(self, found: Sequence[Cell]) -> Iterator[Pair | Failure]:
        """Measure every target whose servers have cells, each server in the configuration that is its best there."""
        for target in TARGETS:
            try:
                sides = target.sides(found)
            except NotMeasuredError:
                continue  # its verdict says so
            yield from self._in_turn(target, sides)

    def _in_turn(self, target: Target, sides: tuple[Cell, Cell]) -> Iterator[Pair | Failure]:
        try:
            with ExitStack() as stack:
                called = [self._ready(target, cell, stack) for cell in sides]
                for number in range(1, self.turns + 1):
                    # Who was first is second the next time: neither always follows the other.
                    order = called if number % 2 else called[::-1]
                    found = {
                        server.peer.name: server.measure(aim, target.clients, self.timing.seconds, number)
                        for server, aim in order
                    }
                    ours, rival = (found[cell.key.peer] for cell in sides)
                    yield Pair(target.text, ours, rival)
        except (BenchError, CallError, WrongAnswerError) as error:
            peers, variants = (
                " and ".join(words) for words in zip(*((cell.key.peer, cell.variant) for cell in sides), strict=True)
            )
            printed = error.printed if isinstance(error, NotStartedError) else ""
            yield Failure(peers, variants, target.workload, f"{target.protocol}, in turn", str(error), printed)

    def _ready(self, target: Target, cell: Cell, stack: ExitStack) -> tuple[Server, Aim]:
        """Start a server, which runs until the stack ends, and warm it up."""
        peer = self.peers[cell.key.peer]
        (variant,) = (each for each in peer.variants if each.title == cell.variant)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rivals-")))
        workload = self.workloads[target.workload]
        server = stack.enter_context(started(peer, variant, workload, [target.protocol], folder))
        aim = server.aim(target.protocol)
        server.warm_up(aim, target.clients, self.timing.warm_up)
        return server, aim

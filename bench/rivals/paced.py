"""Calls at a constant rate, the same for every server: a closed loop flatters a slow one, which is asked less often."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.command import BenchError, run
from bench.rivals.client import CallError, verified
from bench.rivals.measure import Failure, wait_until_right
from bench.rivals.peers.base import Peer, Variant
from bench.rivals.statistics import Cell
from bench.rivals.targets import OURS
from bench.rivals.wire import REST
from bench.rivals.workloads import ROOT, Workload, WrongAnswerError

CLIENTS = 128
SHARE = 0.5
#: A server that answers less than this share of what is due can't keep the rate.
KEPT = 0.98


@dataclass(frozen=True)
class Paced:
    """One server at one rate, in calls per second; latencies in ms count from when a call was due."""

    peer: str
    variant: str
    rate: float
    answered: float
    p50: float
    p99: float
    errors: int

    @property
    def kept(self) -> bool:
        """Whether it answered as fast as it was asked."""
        return not self.errors and self.answered >= KEPT * self.rate


def rates(best: Sequence[Cell]) -> list[float]:
    """Return half of what the weakest server answered in a closed loop, and half of what ours did."""
    throughput = {cell.key.peer: cell.per_second for cell in best}
    ours = [throughput[OURS]] if OURS in throughput else []
    return [round(SHARE * rate) for rate in dict.fromkeys([min(throughput.values()), *ours])]


class Pacer:
    """The project's own load generator, which sends at a rate."""

    def __init__(self, folder: Path) -> None:
        self._binary = folder / "loadgen"
        run("go", "build", "-C", str(ROOT / "bench" / "loadgen"), "-o", str(self._binary), ".")

    def measure(
        self, peer: Peer, variant: Variant, workload: Workload, *, at: Sequence[float], seconds: float, folder: Path
    ) -> Iterator[Paced | Failure]:
        """Start a server and call it over REST at each rate."""
        with peer.launch(variant, workload, folder) as running:
            endpoint = next(each for each in running.endpoints if each.wire.protocol == REST)
            request = endpoint.wire.request(workload)
            body = folder / "body.json"
            body.write_bytes(request.body)
            words = {"target": endpoint.address, "path": request.path, "body": body, "clients": CLIENTS}
            try:
                wait_until_right(running, request, endpoint.address, workload)
                for rate in at:
                    verified(request, endpoint.address, workload)
                    options = {**words, "rate": rate, "duration": f"{seconds:g}s"}
                    printed = run(str(self._binary), *(f"--{name}={word}" for name, word in options.items()))
                    load = json.loads(printed)
                    yield Paced(
                        peer.name, variant.title, rate, load["requestsPerSecond"],
                        load["p50Microseconds"] / 1000, load["p99Microseconds"] / 1000, load["errors"],
                    )  # fmt: skip
            except (BenchError, CallError, WrongAnswerError) as error:
                yield Failure(peer.name, variant.title, workload.name, "constant rate", str(error))

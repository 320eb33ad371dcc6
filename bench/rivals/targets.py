"""What this project promises about its speed, as ratios within one run, and whether the run holds it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.rivals.measure import Measurement
from bench.rivals.statistics import Cell, Key, cells
from bench.rivals.wire import GRPC, REST, STREAM
from bench.rivals.workloads import LARGE

#: The servers for models in Python that it has to beat.
FIVE = ("mlserver", "kserve", "litserve", "bentoml", "ray")
OURS = "polyglot"
CLIENTS, STREAM_CLIENTS = 32, 8


class NotMeasuredError(Exception):
    """A cell that a target needs isn't there; the text names it."""


@dataclass(frozen=True)
class Pair:
    """Ours and the rival of a target, measured right after one another while both were up."""

    target: str
    ours: Measurement
    rival: Measurement


@dataclass(frozen=True)
class Verdict:
    """A target, its bound, what the run shows, and what follows from it: `held`, `missed` or why neither."""

    target: str
    bound: str
    found: str
    word: str


HELD, MISSED, NOT_JUDGED, NO_TARGET = "held", "missed", "not judged", "no target"


@dataclass(frozen=True)
class Figure:
    """What of two cells is compared, and by what a server's configuration is chosen: more is better."""

    of: Callable[[Cell], float]
    strength: Callable[[Cell], float]


RATE = Figure(lambda cell: cell.per_second, lambda cell: cell.per_second)
P50 = Figure(lambda cell: cell.p50, lambda cell: -cell.p50)
P99 = Figure(lambda cell: cell.p99, lambda cell: cell.per_second)
CALLS_PER_CPU_SECOND = Figure(lambda cell: 1e6 / cell.cpu_total, lambda cell: -cell.cpu_total)


@dataclass(frozen=True)
class Target:
    """A ratio of ours to the strongest rival's, and its bound on one side; with neither it is told for comparison."""

    text: str
    figure: Figure
    rivals: tuple[str, ...]
    at_least: float | None = None
    at_most: float | None = None
    ours: str = OURS
    protocol: str = REST
    clients: int = CLIENTS
    workload: str = "identity"
    #: The rival counts with one worker, whichever number is its best.
    one_worker: bool = False

    @property
    def servers(self) -> set[str]:
        """Return the names of all that it needs."""
        return {self.ours, *self.rivals}

    def sides(self, found: Sequence[Cell]) -> tuple[Cell, Cell]:
        """Return our cell and that of the strongest rival, each server at its best configuration.

        Raises
        ------
        NotMeasuredError
            There is none of ours, or of a rival.
        """
        ours = self._best(found, self.ours, one_worker=False)
        rivals = [self._best(found, rival, one_worker=self.one_worker) for rival in self.rivals]
        if self.at_most is not None:
            return ours, min(rivals, key=self.figure.of)
        return ours, max(rivals, key=self.figure.of)

    def judge(self, found: Sequence[Cell], pairs: Sequence[Pair]) -> Verdict:
        """Judge a run: by the median of the pairs, or by the cells where there are no pairs."""
        measured = [_both(pair) for pair in pairs if pair.target == self.text]
        try:
            sides = measured or [self.sides(found)]
        except NotMeasuredError as missing:
            return Verdict(self.text, self._bound, f"not measured: {missing}", NOT_JUDGED)
        ratios = [self.figure.of(ours) / self.figure.of(rival) for ours, rival in sides]
        spread = f" ({min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} turns)" if measured else ""
        (ours, rival), value = sides[0], statistics.median(ratios)
        words = f"{value:.2f}{spread}: {_named(ours)} against {_named(rival)}"
        return Verdict(self.text, self._bound, words, self._word(value))

    def _best(self, found: Sequence[Cell], peer: str, *, one_worker: bool) -> Cell:
        key = Key(peer, self.workload, self.protocol, self.clients)
        mine = [cell for cell in found if cell.key == key and (cell.workers == 1 or not one_worker)]
        if not mine:
            with_workers = " with 1 worker" if one_worker else ""
            raise NotMeasuredError(f"{peer}{with_workers}, {self.workload}, {self.protocol}, {self.clients} clients")
        return max(mine, key=self.figure.strength)

    @property
    def _bound(self) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return f"≤ {self.at_most:g}" if self.at_most is not None else "-"

    def _word(self, value: float) -> str:
        if self.at_least is not None:
            return HELD if value >= self.at_least else MISSED
        if self.at_most is not None:
            return HELD if value <= self.at_most else MISSED
        return NO_TARGET


def verdicts(found: Sequence[Cell], pairs: Sequence[Pair]) -> Iterator[Verdict]:
    """Judge every target."""
    for target in TARGETS:
        yield target.judge(found, pairs)


def _both(pair: Pair) -> tuple[Cell, Cell]:
    (ours,), (rival,) = cells([pair.ours]), cells([pair.rival])
    return ours, rival


def _named(cell: Cell) -> str:
    return f"{cell.key.peer} ({cell.variant})"


TARGETS = (
    Target("REST calls/s against the best of the five servers for Python models", RATE, FIVE, at_least=6),
    Target("REST calls/s against Triton with a Python model (PyTriton)", RATE, ("pytriton",), at_least=3),
    Target("REST calls/s against Triton with a Python model, without PyTriton", RATE, ("triton",)),
    Target(
        "REST calls/s against one worker of FastAPI + orjson by hand", RATE, ("fastapi",), at_least=1.4, one_worker=True
    ),
    Target("REST calls/s against ourselves unbatched", RATE, ("unbatched",), at_least=3),
    Target("REST p99 against the least of the five", P99, FIVE, at_most=0.5),
    Target("REST p50 of one client against the least of the five", P50, FIVE, at_most=1.15, clients=1),
    Target(
        "gRPC straight to the server, calls per CPU second, against grpc.aio by hand",
        CALLS_PER_CPU_SECOND, ("grpc-aio",), at_least=0.9, ours="server", protocol=GRPC, one_worker=True,
    ),
    Target(
        "gRPC straight to the server, 64 KiB tensors, calls/s against KServe's",
        RATE, ("kserve",), at_least=1, ours="server", protocol=GRPC, workload=LARGE,
    ),
    Target(
        "Messages/s of ModelStreamInfer against a bare grpc.aio stream",
        RATE, ("grpc-aio",), at_least=0.8, ours="server", protocol=STREAM, clients=STREAM_CLIENTS, one_worker=True,
    ),
)  # fmt: skip

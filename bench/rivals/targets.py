"""What this project promises about its speed, as ratios within one run, and whether the run holds it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from bench.rivals.plan import STREAM_CLIENTS
from bench.rivals.statistics import Cell, Key
from bench.rivals.wire import GRPC, REST, STREAM
from bench.rivals.workloads import LARGE

#: The servers for models in Python that it has to beat.
FIVE = ("mlserver", "kserve", "litserve", "bentoml", "ray")
OURS = "polyglot"
CLIENTS = 32

Best = Mapping[Key, Cell]


class NotMeasuredError(Exception):
    """A cell that a target needs isn't there; the text names it."""


@dataclass(frozen=True)
class Ratio:
    """What a run shows: a ratio, and which cells make it."""

    value: float
    ours: Cell
    rival: Cell


#: All cells, and each server's best ones, to a ratio.
Measure = Callable[[Best, list[Cell]], Ratio]


@dataclass(frozen=True)
class Verdict:
    """A target, its bound, what the run shows, and what follows from it: `held`, `missed` or why neither."""

    target: str
    bound: str
    found: str
    word: str


HELD, MISSED, NOT_JUDGED, NO_TARGET = "held", "missed", "not judged", "no target"


@dataclass(frozen=True)
class Target:
    """A ratio with its bound, of which one side is given; with neither it is told for comparison."""

    text: str
    ratio: Measure
    at_least: float | None = None
    at_most: float | None = None

    def judge(self, best: Best, cells: list[Cell]) -> Verdict:
        """Judge a run."""
        try:
            ratio = self.ratio(best, cells)
        except NotMeasuredError as missing:
            return Verdict(self.text, self._bound, f"not measured: {missing}", NOT_JUDGED)
        found = f"{ratio.value:.2f}: {_named(ratio.ours)} against {_named(ratio.rival)}"
        return Verdict(self.text, self._bound, found, self._word(ratio.value))

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


def verdicts(best: Best, cells: list[Cell]) -> Iterator[Verdict]:
    """Judge every target."""
    for target in TARGETS:
        yield target.judge(best, cells)


def _of(best: Best, peer: str, protocol: str = REST, clients: int = CLIENTS, workload: str = "identity") -> Cell:
    cell = best.get(Key(peer, workload, protocol, clients))
    if cell is None:
        raise NotMeasuredError(f"{peer}, {workload}, {protocol}, {clients} clients")
    return cell


def _throughput(*rivals: str) -> Measure:
    def ratio(best: Best, _cells: list[Cell]) -> Ratio:
        ours, rival = _of(best, OURS), max((_of(best, rival) for rival in rivals), key=_rate)
        return Ratio(ours.per_second / rival.per_second, ours, rival)

    return ratio


def _tail(best: Best, _cells: list[Cell]) -> Ratio:
    ours, rival = _of(best, OURS), min((_of(best, rival) for rival in FIVE), key=lambda cell: cell.p99)
    return Ratio(ours.p99 / rival.p99, ours, rival)


def _median_of_one(best: Best, _cells: list[Cell]) -> Ratio:
    ours = _of(best, OURS, clients=1)
    rival = min((_of(best, rival, clients=1) for rival in FIVE), key=lambda cell: cell.p50)
    return Ratio(ours.p50 / rival.p50, ours, rival)


def _one_worker(best: Best, cells: list[Cell]) -> Ratio:
    """Compare with one worker, whichever number is that server's best."""
    ours, rival = _of(best, OURS), max(_with_one_worker(cells, "fastapi", REST, CLIENTS), key=_rate)
    return Ratio(ours.per_second / rival.per_second, ours, rival)


def _per_core(_best: Best, cells: list[Cell]) -> Ratio:
    """Compare calls per second of CPU, which are the inverse of CPU per call."""
    ours, rival = (
        min(_with_one_worker(cells, peer, GRPC, CLIENTS), key=lambda cell: cell.cpu_total)
        for peer in ("server", "grpc-aio")
    )
    return Ratio(rival.cpu_total / ours.cpu_total, ours, rival)


def _large(best: Best, _cells: list[Cell]) -> Ratio:
    ours, rival = (_of(best, peer, GRPC, workload=LARGE) for peer in ("server", "kserve"))
    return Ratio(ours.per_second / rival.per_second, ours, rival)


def _stream(_best: Best, cells: list[Cell]) -> Ratio:
    ours, rival = (
        max(_with_one_worker(cells, peer, STREAM, STREAM_CLIENTS[0]), key=_rate) for peer in ("server", "grpc-aio")
    )
    return Ratio(ours.per_second / rival.per_second, ours, rival)


def _with_one_worker(cells: Iterable[Cell], peer: str, protocol: str, clients: int) -> list[Cell]:
    key = Key(peer, "identity", protocol, clients)
    found = [cell for cell in cells if cell.key == key and cell.workers == 1]
    if not found:
        raise NotMeasuredError(f"{peer} with 1 worker, identity, {protocol}, {clients} clients")
    return found


def _rate(cell: Cell) -> float:
    return cell.per_second


def _named(cell: Cell) -> str:
    return f"{cell.key.peer} ({cell.variant})"


TARGETS = (
    Target("REST calls/s against the best of the five servers for Python models", _throughput(*FIVE), at_least=6),
    Target("REST calls/s against Triton with a Python model (PyTriton)", _throughput("pytriton"), at_least=3),
    Target("REST calls/s against Triton with a Python model, without PyTriton", _throughput("triton")),
    Target("REST calls/s against one worker of FastAPI + orjson by hand", _one_worker, at_least=1.4),
    Target("REST calls/s against ourselves unbatched", _throughput("unbatched"), at_least=3),
    Target("REST p99 against the least of the five", _tail, at_most=0.5),
    Target("REST p50 of one client against the least of the five", _median_of_one, at_most=1.15),
    Target("gRPC straight to the server, calls per CPU second, against grpc.aio by hand", _per_core, at_least=0.9),
    Target("gRPC straight to the server, 64 KiB tensors, calls/s against KServe's", _large, at_least=1),
    Target("Messages/s of ModelStreamInfer against a bare grpc.aio stream", _stream, at_least=0.8),
)

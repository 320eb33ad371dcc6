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
class Verdict:
    """A target, what the run shows, and whether that holds it; `held` is None where the run can't say."""

    target: str
    bound: str
    found: str
    held: bool | None


@dataclass(frozen=True)
class Target:
    """A ratio with its bound, of which one side is given."""

    text: str
    ratio: Callable[[Best, list[Cell]], tuple[float, str]]
    at_least: float | None = None
    at_most: float | None = None

    def judge(self, best: Best, cells: list[Cell]) -> Verdict:
        """Judge a run."""
        bound = f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"
        try:
            ratio, against = self.ratio(best, cells)
        except NotMeasuredError as missing:
            return Verdict(self.text, bound, f"not measured: {missing}", None)
        held = ratio >= self.at_least if self.at_least is not None else ratio <= (self.at_most or 0)
        return Verdict(self.text, bound, f"{ratio:.2f}, against {against}", held)


def verdicts(best: Best, cells: list[Cell]) -> Iterator[Verdict]:
    """Judge every target."""
    for target in TARGETS:
        yield target.judge(best, cells)


def _of(best: Best, peer: str, protocol: str = REST, clients: int = CLIENTS, workload: str = "identity") -> Cell:
    cell = best.get(Key(peer, workload, protocol, clients))
    if cell is None:
        raise NotMeasuredError(f"{peer}, {workload}, {protocol}, {clients} clients")
    return cell


def _throughput(*rivals: str) -> Callable[[Best, list[Cell]], tuple[float, str]]:
    def ratio(best: Best, _cells: list[Cell]) -> tuple[float, str]:
        strongest = max((_of(best, rival) for rival in rivals), key=lambda cell: cell.per_second)
        return _of(best, OURS).per_second / strongest.per_second, _named(strongest)

    return ratio


def _tail(best: Best, _cells: list[Cell]) -> tuple[float, str]:
    quickest = min((_of(best, rival) for rival in FIVE), key=lambda cell: cell.p99)
    return _of(best, OURS).p99 / quickest.p99, _named(quickest)


def _median_of_one(best: Best, _cells: list[Cell]) -> tuple[float, str]:
    quickest = min((_of(best, rival, clients=1) for rival in FIVE), key=lambda cell: cell.p50)
    return _of(best, OURS, clients=1).p50 / quickest.p50, _named(quickest)


def _one_worker(best: Best, cells: list[Cell]) -> tuple[float, str]:
    """Compare with one worker, whichever number is that server's best."""
    rival = _with_one_worker(cells, Key("fastapi", "identity", REST, CLIENTS))
    return _of(best, OURS).per_second / rival.per_second, _named(rival)


def _per_core(_best: Best, cells: list[Cell]) -> tuple[float, str]:
    """Compare calls per second of CPU, which are the inverse of CPU per call."""
    rival = _with_one_worker(cells, Key("grpc-aio", "identity", GRPC, CLIENTS))
    ours = _with_one_worker(cells, Key("server", "identity", GRPC, CLIENTS))
    return rival.cpu_total / ours.cpu_total, _named(rival)


def _large(best: Best, _cells: list[Cell]) -> tuple[float, str]:
    rival = _of(best, "kserve", GRPC, workload=LARGE)
    return _of(best, "server", GRPC, workload=LARGE).per_second / rival.per_second, _named(rival)


def _stream(_best: Best, cells: list[Cell]) -> tuple[float, str]:
    rival = _with_one_worker(cells, Key("grpc-aio", "identity", STREAM, STREAM_CLIENTS[0]))
    ours = _with_one_worker(cells, Key("server", "identity", STREAM, STREAM_CLIENTS[0]))
    return ours.per_second / rival.per_second, _named(rival)


def _with_one_worker(cells: Iterable[Cell], key: Key) -> Cell:
    for cell in cells:
        if cell.key == key and cell.workers == 1:
            return cell
    raise NotMeasuredError(f"{key.peer} with 1 worker, {key.workload}, {key.protocol}, {key.clients} clients")


def _named(cell: Cell) -> str:
    return f"{cell.key.peer} ({cell.variant})"


TARGETS = (
    Target("REST calls/s against the best of the five servers for Python models", _throughput(*FIVE), at_least=6),
    Target("REST calls/s against Triton with a Python model", _throughput("triton"), at_least=3),
    Target("REST calls/s against one worker of FastAPI + orjson by hand", _one_worker, at_least=1.4),
    Target("REST calls/s against ourselves unbatched", _throughput("unbatched"), at_least=3),
    Target("REST p99 against the least of the five", _tail, at_most=0.5),
    Target("REST p50 of one client against the least of the five", _median_of_one, at_most=1.15),
    Target("gRPC straight to the server, calls per CPU second, against grpc.aio by hand", _per_core, at_least=0.9),
    Target("gRPC straight to the server, 64 KiB tensors, calls/s against KServe's", _large, at_least=1),
    Target("Messages/s of ModelStreamInfer against a bare grpc.aio stream", _stream, at_least=0.8),
)

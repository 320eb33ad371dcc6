"""From measurements to cells of the table: the median of the rounds, and each server at its best configuration."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bench.rivals.measure import Measurement


@dataclass(frozen=True)
class Key:
    """A cell: what was asked of a server."""

    peer: str
    workload: str
    protocol: str
    clients: int


@dataclass(frozen=True)
class Cell:
    """Medians over the rounds: calls per second, latencies in ms, CPU in µs per call, memory in bytes."""

    key: Key
    variant: str
    workers: int
    per_second: float
    #: Slowest and fastest round.
    spread: tuple[float, float]
    p50: float
    p99: float
    cpu: Mapping[str, float]
    #: CPU of the load generator, in µs per call; None in results from before it was measured.
    load_cpu: float | None
    proportional: int
    errors: int
    requests: int
    messages: int

    @property
    def cpu_total(self) -> float:
        """CPU of all its processes."""
        return sum(self.cpu.values())


def cells(measurements: Iterable[Measurement]) -> list[Cell]:
    """Return a cell for each configuration of each server."""
    grouped: dict[tuple[Key, str], list[Measurement]] = defaultdict(list)
    for each in measurements:
        grouped[Key(each.peer, each.workload, each.protocol, each.clients), each.variant].append(each)
    return [_cell(key, rounds) for (key, _), rounds in grouped.items()]


def best(found: Iterable[Cell]) -> dict[Key, Cell]:
    """Return each server's best configuration: by median latency for one client, else by throughput."""
    chosen: dict[Key, Cell] = {}
    for cell in found:
        other = chosen.get(cell.key)
        if other is None or _better(cell, other):
            chosen[cell.key] = cell
    return chosen


def _better(cell: Cell, other: Cell) -> bool:
    return cell.p50 < other.p50 if cell.key.clients == 1 else cell.per_second > other.per_second


def _cell(key: Key, rounds: list[Measurement]) -> Cell:
    rates = [each.load.per_second for each in rounds]
    return Cell(
        key,
        rounds[0].variant,
        rounds[0].workers,
        statistics.median(rates),
        (min(rates), max(rates)),
        statistics.median(each.load.p50 for each in rounds),
        statistics.median(each.load.p99 for each in rounds),
        {role: statistics.median(each.cpu[role] for each in rounds) for role in rounds[0].cpu},
        statistics.median(known) if (known := [each.load.own_cpu for each in rounds if each.load.own_cpu]) else None,
        max(each.proportional for each in rounds),
        sum(each.load.errors for each in rounds),
        sum(each.load.requests for each in rounds),
        rounds[0].messages,
    )

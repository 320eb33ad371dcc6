"""The pictures of docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.rivals.results import Results
from bench.rivals.statistics import Cell, Key
from bench.rivals.wire import GRPC, REST

mpl.use("agg")

OURS, THEIRS = "#2563a8", "#b0b7bf"
OUR_NAMES = ("polyglot", "polyglot-uds", "unbatched", "unbatched-uds", "server")
CLIENTS = 32


def write(results: Results, best: Mapping[Key, Cell], folder: Path) -> list[Path]:
    """Write what the run has numbers for, and return the files."""
    folder.mkdir(exist_ok=True)
    written = []
    for protocol, name in ((REST, "rest"), (GRPC, "grpc")):
        rows = [
            cell
            for key, cell in best.items()
            if (key.workload, key.protocol, key.clients) == ("identity", protocol, CLIENTS)
        ]
        if rows:
            written.append(_bars(results, rows, protocol, folder / f"{name}-{CLIENTS}-clients.png"))
        lines = [cell for key, cell in best.items() if (key.workload, key.protocol) == ("identity", protocol)]
        if len({cell.key.clients for cell in lines}) > 2:
            written.append(_lines(results, lines, protocol, folder / f"{name}-p99-by-clients.png"))
    return written


def _bars(results: Results, rows: Sequence[Cell], protocol: str, path: Path) -> Path:
    """Draw calls per second beside CPU per call."""
    ordered = sorted(rows, key=lambda cell: cell.per_second)
    figure = Figure(figsize=(11, 0.45 * len(ordered) + 1.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names = [_title(results, cell) for cell in ordered]
    colours = [OURS if cell.key.peer in OUR_NAMES else THEIRS for cell in ordered]
    for axes, values, label in (
        (left, [cell.per_second for cell in ordered], "calls/s"),
        (right, [cell.cpu_total for cell in ordered], "CPU µs per call, all processes"),
    ):
        bars = axes.barh(names, values, color=colours)
        axes.bar_label(bars, [f"{value:,.0f}" for value in values], padding=3, fontsize=8)
        axes.set_xlabel(label)
        axes.margins(x=0.18)
        _plain(axes)
    figure.suptitle(f"Identity, FP32[1,16], {protocol}, {CLIENTS} clients; {results.date[:10]}, {results.commit}")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return path


def _lines(results: Results, rows: Sequence[Cell], protocol: str, path: Path) -> Path:
    """Draw p99 by the number of clients."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for peer in dict.fromkeys(cell.key.peer for cell in rows):
        points = sorted((cell for cell in rows if cell.key.peer == peer), key=lambda cell: cell.key.clients)
        axes.plot(
            [cell.key.clients for cell in points],
            [cell.p99 for cell in points],
            marker="o",
            linewidth=2.5 if peer in OUR_NAMES else 1.2,
            label=_title(results, points[0]),
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("clients")
    axes.set_ylabel("p99 ms")
    axes.legend(fontsize=8)
    _plain(axes)
    figure.suptitle(f"Identity, FP32[1,16], {protocol}; {results.date[:10]}, {results.commit}")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return path


def _title(results: Results, cell: Cell) -> str:
    (title,) = (peer["title"] for peer in results.peers if peer["name"] == cell.key.peer)
    return str(title)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)

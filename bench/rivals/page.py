"""docs/benchmarks.md from the raw results of a run: `python -m bench.rivals.page RESULTS.json` writes it anew."""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from bench.rivals import plots
from bench.rivals.results import Results
from bench.rivals.statistics import Cell, best, cells
from bench.rivals.targets import MISSED, Verdict, verdicts
from bench.rivals.wire import BINARY, GRPC, REST, STREAM
from bench.rivals.workloads import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
PROTOCOLS = (REST, BINARY, GRPC, STREAM)
COLUMNS = (
    "server", "configuration", "clients", "calls/s", "rounds", "p50 ms", "p99 ms", "CPU µs/call", "h2load µs/call",
    "PSS MiB", "errors",
)  # fmt: skip
#: A machine that was busier than this share of its CPUs before the run began was not quiet.
QUIET_LOAD = 0.25


def write(results: Results, raw: Path) -> None:
    """Write the page and its plots."""
    found = best(cells(results.measurements))
    pictures = plots.write(results, found, PAGE.parent / "benchmarks")
    PAGE.write_text("\n".join(lines(results, raw, pictures)) + "\n")


def table(results: Results) -> str:
    """Return the verdicts and all tables, without the words around them."""
    return "\n".join(
        [
            *_verdict_lines(list(_judged(results))),
            *_table_lines(results),
            *_paced_lines(results),
            *_failure_lines(results),
        ]
    )


def lines(results: Results, raw: Path, pictures: Sequence[Path]) -> Iterator[str]:
    """Give the lines of the page of a run whose raw numbers are kept in a file."""
    machine = results.machine
    kind = f"rounds: {results.rounds}"
    if results.quick:
        kind = f"quick run: what the targets ask for, {kind}"
    elif results.rounds > 1:
        kind += ", after the first of what the targets ask for"
    if results.pairs:
        kind += "; then the two servers of each target in turn"
    yield "# Benchmarks"
    yield ""
    yield "Written by `make bench-rivals`; don't edit. How it measures and how to read it: [bench](../bench/README.md)."
    yield ""
    yield f"- {results.date}, commit `{results.commit}`; {kind}, {results.seconds:g} s each."
    yield (
        f"- {machine['cpus']} CPUs ({machine['cpu']}), {machine['memoryGiB']} GiB, Linux {machine['kernel']},"
        f" Python {machine['python']}. Load generator and servers share the CPUs:"
        " what h2load itself took of them stands beside each server's CPU."
    )
    before, after = results.load_averages
    yield f"- Load average {before:.1f} before the run, {after:.1f} after it. {_noise(results)}"
    yield f"- Raw numbers: [`{raw.relative_to(ROOT)}`](../{raw.relative_to(ROOT)})."
    yield ""
    yield "## Targets"
    yield ""
    yield "Identity, FP32[1,16], 32 clients where nothing else is said."
    if results.pairs:
        yield "Each ratio is the median of turns, in each of which both were called right after one another."
    yield ""
    yield from _verdict_lines(list(_judged(results)))
    yield ""
    for picture in pictures:
        yield f"![{picture.stem.replace('-', ' ')}]({picture.parent.name}/{picture.name})"
        yield ""
    yield "## Servers"
    yield ""
    yield "Each counts at the best of the configurations that it has here; the tables name it."
    yield ""
    yield "| server | version | configurations |"
    yield "|---|---|---|"
    for peer in results.peers:
        yield f"| {peer['title']} (`{peer['name']}`) | {peer['version']} | {peer['note']} |"
    yield from _table_lines(results)
    yield from _paced_lines(results)
    yield from _failure_lines(results)


def _noise(results: Results) -> str:
    if results.load_averages[0] <= QUIET_LOAD * results.machine["cpus"]:
        return f"Nothing else ran when it began.{_unsteadiness(results)}"
    return "**The machine was busy with other work: compare rows by CPU per call; the latencies are not to be quoted.**"


def _unsteadiness(results: Results) -> str:
    """Say how much the machine's speed changed: what the same call cost the same server in different rounds."""
    costs: dict[tuple[object, ...], list[float]] = defaultdict(list)
    for each in results.measurements:
        cell = (each.peer, each.variant, each.workload, each.protocol, each.clients)
        costs[cell].append(sum(each.cpu.values()))
    ratios = [max(found) / min(found) for found in costs.values() if len(found) > 1]
    if not ratios:
        return ""
    return (
        f" From round to round a call cost the same server {statistics.median(ratios):.2f} times the CPU (median),"
        f" at most {max(ratios):.2f} times: compare neighbours."
    )


def _judged(results: Results) -> Iterator[Verdict]:
    return verdicts(cells(results.measurements), results.pairs)


def _verdict_lines(judged: Sequence[Verdict]) -> Iterator[str]:
    yield "| target | bound | found | verdict |"
    yield "|---|---|---|---|"
    for verdict in judged:
        word = f"**{MISSED}**" if verdict.word == MISSED else verdict.word
        yield f"| {verdict.target} | {verdict.bound} | {verdict.found} | {word} |"


def _table_lines(results: Results) -> Iterator[str]:
    chosen = list(best(cells(results.measurements)).values())
    titles = {peer["name"]: peer["title"] for peer in results.peers}
    for workload, title in results.workloads.items():
        for protocol in PROTOCOLS:
            rows = [cell for cell in chosen if (cell.key.workload, cell.key.protocol) == (workload, protocol)]
            failed = _failed(results, workload, protocol, {cell.key.peer for cell in rows})
            if rows or failed:
                yield from ("", f"## {title}: {protocol}", "")
                yield f"| {' | '.join(COLUMNS)} |"
                yield "|---|---|---:|---:|---|---:|---:|---|---:|---:|---:|"
                rows.sort(key=lambda cell: (cell.key.clients, -cell.per_second))
                yield from (_row(cell, titles[cell.key.peer]) for cell in rows)
                yield from (f"| {titles[peer]} | **failed**, see below |{' |' * (len(COLUMNS) - 2)}" for peer in failed)


def _failed(results: Results, workload: str, protocol: str, measured: Collection[str]) -> list[str]:
    """Return the servers that speak a protocol and have no row because none of their configurations gave one."""
    failures = {each.peer for each in results.failures if each.workload == workload}
    speakers = [peer["name"] for peer in results.peers if protocol in peer["protocols"]]
    return [name for name in speakers if name in failures and name not in measured]


def _row(cell: Cell, title: str) -> str:
    cpu = f"{cell.cpu_total:.0f}"
    if len(cell.cpu) > 1:
        cpu += f" ({', '.join(f'{role} {used:.0f}' for role, used in cell.cpu.items())})"
    rate = f"{cell.per_second:.0f}"
    if cell.messages > 1:
        rate += f" of {cell.messages} messages"
    spread = f"{cell.spread[0]:.0f} to {cell.spread[1]:.0f}"
    columns = [
        title, cell.variant, str(cell.key.clients), rate, spread, f"{cell.p50:.2f}", f"{cell.p99:.2f}", cpu,
        f"{cell.load_cpu:.0f}" if cell.load_cpu is not None else "-",
        f"{cell.proportional / 2**20:.0f}", str(cell.errors),
    ]  # fmt: skip
    return f"| {' | '.join(columns)} |"


def _paced_lines(results: Results) -> Iterator[str]:
    if not results.paced:
        return
    yield from ("", "## identity at a constant rate: REST JSON", "")
    yield "Half of what the weakest server answered above, and half of ours. Latency counts from when a call was due:"
    yield "a server that falls behind shows it."
    yield ""
    yield "| server | configuration | calls due/s | answered/s | p50 ms | p99 ms | errors |"
    yield "|---|---|---:|---:|---:|---:|---:|"
    titles = {peer["name"]: peer["title"] for peer in results.peers}
    for each in sorted(results.paced, key=lambda paced: (paced.rate, paced.p99)):
        answered = f"{each.answered:.0f}" + ("" if each.kept else ", falls behind")
        latencies = f"{each.p50:.2f} | {each.p99:.2f}"
        title = titles[each.peer]
        yield f"| {title} | {each.variant} | {each.rate:.0f} | {answered} | {latencies} | {each.errors} |"


def _failure_lines(results: Results) -> Iterator[str]:
    if not results.failures:
        return
    yield from ("", "## What failed", "")
    yield "The run itself printed the ends of the servers' logs."
    yield ""
    yield "| server | configuration | workload | protocol | why |"
    yield "|---|---|---|---|---|"
    # The same failure in another round tells nothing new.
    rows = {(each.peer, each.variant, each.workload, each.protocol, each.why): each for each in results.failures}
    for each in rows.values():
        why = each.why.replace("|", "\\|")[:200]
        yield f"| {each.peer} | {each.variant} | {each.workload} | {each.protocol or 'did not start'} | {why} |"


def main() -> int:
    """Write the page of a file of results."""
    if len(sys.argv) != 2:
        print("usage: python -m bench.rivals.page bench/results/FILE.json", file=sys.stderr)
        return 2
    raw = Path(sys.argv[1]).resolve()
    write(Results.read(raw), raw)
    print(f"wrote {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

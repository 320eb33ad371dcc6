"""`make bench-rivals`: this project beside other servers for models, on this machine, in one session.

Every server is verified before it is measured; load goes to 127.0.0.1 only. Writes the raw results to bench/results
and, after a run over all servers, docs/benchmarks.md. What can't be started or answers wrongly is reported, never left
out.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.command import BenchError, perform, refuse_strays
from bench.processes import load_average
from bench.rivals import h2load, page, plan
from bench.rivals.measure import Failure, Measurement, measure
from bench.rivals.paced import Paced, Pacer, rates
from bench.rivals.pairs import Pairing
from bench.rivals.peers import foreign, polyglot
from bench.rivals.peers.base import Peer
from bench.rivals.results import Results, commit, machine, now
from bench.rivals.statistics import Key, best, cells
from bench.rivals.targets import CLIENTS, Pair
from bench.rivals.wire import REST
from bench.rivals.workloads import LARGE, ROOT, WORKLOADS, Workload, identity


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="what the targets ask for, one round")
    parser.add_argument(
        "--rounds", type=int, help="how often what the targets ask for is measured (default: 2, or 1 if quick)"
    )
    parser.add_argument(
        "--turns", type=int, help="how often the two servers of each target are called in turn (default: 8, or 2)"
    )
    parser.add_argument("--workloads", nargs="+", choices=[*WORKLOADS, LARGE], help="default: all")
    parser.add_argument("--peers", nargs="+", metavar="NAME", help="only these servers; the page is left as it is")
    return parser.parse_args(words)


def planned(options: argparse.Namespace) -> plan.Plan:
    """Return the run that the command line asks for."""
    chosen = plan.quick() if options.quick else plan.full()
    if options.rounds:
        chosen = replace(chosen, rounds=options.rounds)
    if options.turns:
        chosen = replace(chosen, turns=options.turns)
    if options.workloads:
        unknown = set(options.workloads) - set(chosen.workloads)
        if unknown:
            raise BenchError(f"a quick run has no {', '.join(sorted(unknown))}; leave --quick")
        chosen = chosen.only(options.workloads)
    return chosen


def chosen_peers(all_peers: Sequence[Peer], names: Collection[str] | None) -> list[Peer]:
    """Return the servers by name; all without any.

    Raises
    ------
    BenchError
        There is none of a name.
    """
    known = {peer.name: peer for peer in all_peers}
    unknown = [name for name in names or [] if name not in known]
    if unknown:
        raise BenchError(f"no server is called {', '.join(unknown)}; choose from {', '.join(known)}")
    return [known[name] for name in names or known]


def workload(name: str) -> Workload:
    """Return a workload by name."""
    return identity(16384, LARGE) if name == LARGE else WORKLOADS[name]()


def execute(chosen: plan.Plan, peers: Sequence[Peer]) -> Results:
    """Measure everything and say how it goes."""
    workloads = {name: workload(name) for name in chosen.workloads}
    measurements: list[Measurement] = []
    failures: list[Failure] = []
    begun, before, measured = now(), load_average(), commit()
    for start in chosen.starts(peers):
        with tempfile.TemporaryDirectory(prefix="rivals-") as scratch:
            for found in measure(
                start.peer,
                start.variant,
                workloads[start.workload],
                wanted=start.wanted,
                timing=chosen.timing,
                number=start.round,
                folder=Path(scratch),
            ):
                if isinstance(found, Measurement):
                    measurements.append(found)
                else:
                    failures.append(found)
                print(_progress(found), flush=True)
    pairing = Pairing({peer.name: peer for peer in peers}, workloads, chosen.timing, chosen.turns)
    paired = []
    for pair in pairing.measure(cells(measurements)):
        paired.append(pair)
        print(_progress(pair), flush=True)
    failures += [each for each in paired if isinstance(each, Failure)]
    paced = list(_at_constant_rate(chosen, peers, measurements)) if chosen.paced_seconds else []
    failures += [each for each in paced if isinstance(each, Failure)]
    return Results(
        begun,
        measured,
        chosen.quick,
        chosen.rounds,
        chosen.timing.seconds,
        machine(),
        [before, load_average()],
        [described(peer) for peer in peers],
        {name: each.title for name, each in workloads.items()},
        measurements,
        [each for each in paired if isinstance(each, Pair)],
        [each for each in paced if isinstance(each, Paced)],
        [replace(each, why=each.why.splitlines()[0], printed="") for each in failures],
    )


def described(peer: Peer) -> dict[str, Any]:
    """Return what the page tells of a server."""
    words = {"name": peer.name, "title": peer.title, "version": peer.version, "note": peer.note}
    return {**words, "protocols": list(peer.protocols)}


def _at_constant_rate(
    chosen: plan.Plan, peers: Sequence[Peer], measurements: Sequence[Measurement]
) -> Iterator[Paced | Failure]:
    """Call every server of the identity over REST in its best configuration."""
    cells_of = best(cells(measurements))
    strongest = {peer.name: cell for peer in peers if (cell := cells_of.get(Key(peer.name, "identity", REST, CLIENTS)))}
    if not strongest:
        return
    at = rates(list(strongest.values()))
    with tempfile.TemporaryDirectory(prefix="rivals-") as tools:
        pacer = Pacer(Path(tools))
        for peer in peers:
            for variant in peer.variants:
                if peer.name in strongest and variant.title == strongest[peer.name].variant:
                    with tempfile.TemporaryDirectory(prefix="rivals-") as scratch:
                        for found in pacer.measure(
                            peer, variant, identity(16), at=at, seconds=chosen.paced_seconds, folder=Path(scratch)
                        ):
                            print(_progress(found), flush=True)
                            yield found


def _progress(found: Measurement | Pair | Paced | Failure) -> str:
    if isinstance(found, Pair):
        return f"{found.target}:\n  {_progress(found.ours)}\n  {_progress(found.rival)}"
    if isinstance(found, Paced):
        return (
            f"{found.peer}, {found.variant}, {found.answered:.0f} of {found.rate:.0f}/s, p50 {found.p50:.2f} ms,"
            f" p99 {found.p99:.2f} ms, {found.errors} errors"
        )
    where = f"{found.peer}, {found.variant}, {found.workload}, {found.protocol or 'start'}"
    if isinstance(found, Failure):
        return f"FAILED {where}: {found.why}\n{found.printed}".rstrip()
    load, cpu = found.load, sum(found.cpu.values())
    return (
        f"{where}, {found.clients} clients: {load.per_second:.0f}/s, p50 {load.p50:.2f} ms, p99 {load.p99:.2f} ms,"
        f" {cpu:.0f} µs CPU, {load.errors} errors"
    )


def main() -> int:
    """Measure, print, and write the results."""
    options = arguments()
    chosen = planned(options)
    refuse_strays()
    print(h2load.check())
    with tempfile.TemporaryDirectory(prefix="rivals-") as scratch:
        everybody: list[Peer] = [*polyglot.peers(Path(scratch), commit()), *foreign.PEERS]
        peers = chosen_peers(everybody, options.peers or (plan.judged() if chosen.quick else None))
        versions = {peer.name: peer.version for peer in peers}  # which installs what is missing
        print(", ".join(f"{name} {version}" for name, version in versions.items()))
        estimate = chosen.seconds(peers)
        print(f"about {estimate / 60:.0f} minutes; load average {load_average():.1f}", flush=True)
        began = time.monotonic()
        results = execute(chosen, peers)
    print(f"took {(time.monotonic() - began) / 60:.1f} minutes")
    raw = results.write()
    print(page.table(results))
    print(f"raw numbers: {raw.relative_to(ROOT)}")
    if not options.peers and not options.workloads:
        page.write(results, raw)
        print(f"page: {page.PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    perform(main)

"""Throughput, latency and CPU per request of the digits example: REST and gRPC, few and many clients.

On the cluster of `make demo`, with and without the mesh; with `--local`, as two plain processes. Load goes to 127.0.0.1
only. Prints a Markdown table and writes the raw numbers to `bench/results/<date>-<commit>.json`. It asserts that the
answers are right and nothing else: load generator, servers and cluster share the CPUs, so compare rows, not machines.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from bench.command import perform, refuse_strays, run
from bench.first_light import cluster, local
from bench.first_light.measure import ROOT, Digit, LoadGenerator, Measurement, System, check_answers, measure

RESULTS = ROOT / "bench" / "results"
PROCESSES = ("gateway", "gateway sidecar", "inference", "inference sidecar")


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--local", action="store_true", help="measure two processes of this machine, no cluster")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 32], help="numbers of clients (default: 1 32)")
    parser.add_argument("--seconds", type=float, default=10, help="length of each measurement (default: 10)")
    return parser.parse_args(words)


def systems(in_processes: bool, folder: Path) -> Iterator[System]:
    """Give every system to measure, ready to answer."""
    if in_processes:
        with local.running(folder) as system:
            yield system
    else:
        with cluster.installed():
            yield from cluster.services()


def measure_all(options: argparse.Namespace) -> Iterator[Measurement]:
    """Measure every system with every number of clients over both protocols."""
    with tempfile.TemporaryDirectory(prefix="first-light-") as name:
        folder = Path(name)
        digit = Digit.first()
        load = LoadGenerator(folder, digit)
        for system in systems(options.local, folder):
            check_answers(system, digit)
            for clients in options.clients:
                yield from measure(system, load, clients, options.seconds)


def table_head() -> str:
    """Return the table's head in Markdown."""
    columns = [
        "case", "protocol", "clients", "req/s", "p50 ms", "p99 ms", "errors",
        *(f"{process} µs" for process in PROCESSES), "load generator µs",
    ]  # fmt: skip
    return f"| {' | '.join(columns)} |\n|{'---|' * 3}{'---:|' * (len(columns) - 3)}"


def table_row(measurement: Measurement) -> str:
    """Return one row; CPU columns are microseconds per request."""
    load, cpu = measurement.load, measurement.cpu
    columns = [
        measurement.case,
        measurement.protocol,
        str(measurement.clients),
        f"{load['requestsPerSecond']:.0f}",
        f"{load['p50Microseconds'] / 1000:.2f}",
        f"{load['p99Microseconds'] / 1000:.2f}",
        str(load["errors"]),
        *(f"{cpu[process]:.0f}" if process in cpu else "-" for process in PROCESSES),
        f"{load['ownCpuMicroseconds']:.0f}",
    ]
    return f"| {' | '.join(columns)} |"


def write_results(measurements: Sequence[Measurement], options: argparse.Namespace) -> Path:
    """Write the raw numbers, with what one needs to know to read them."""
    now = datetime.now(UTC)
    commit = run("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*").strip()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{now:%Y-%m-%d}-{commit}{'-local' if options.local else ''}.json"
    content = {
        "benchmark": "first_light",
        "date": now.isoformat(timespec="seconds"),
        "commit": commit,
        "machine": {"cpus": os.cpu_count(), "architecture": platform.machine(), "kernel": platform.release()},
        "secondsPerMeasurement": options.seconds,
        "measurements": [asdict(measurement) for measurement in measurements],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def main() -> int:
    """Measure, print the table row by row, and write the raw numbers."""
    options = arguments()
    refuse_strays()
    measurements: list[Measurement] = []
    print(table_head(), flush=True)
    for measurement in measure_all(options):
        measurements.append(measurement)
        print(table_row(measurement), flush=True)
        if measurement.load["errors"]:
            print(f"first error: {measurement.load['failures'][0]['error']}", file=sys.stderr)
    print(f"raw numbers: {write_results(measurements, options).relative_to(ROOT)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    perform(main)

"""Load by h2load (nghttp2): a closed loop over HTTP/1.1 or HTTP/2, every latency kept."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.command import BenchError
from bench.processes import ended_children_cpu_seconds
from bench.rivals.wire import Request

#: gRPC clients share connections as one channel per process does: the clients of a run are streams on so many.
GRPC_CONNECTIONS = 8
#: What h2load may take beyond the duration: to connect, and to write its log.
GRACE_SECONDS = 30

_REQUESTS = re.compile(r"^requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded", re.MULTILINE)
_TRAFFIC = re.compile(r"^traffic: .*\((\d+)\) data$", re.MULTILINE)


class NobodyAnsweredError(BenchError):
    """No call was answered in the time that there was."""


@dataclass(frozen=True)
class Aim:
    """What is sent where, `127.0.0.1:PORT` or `unix:PATH` and nowhere else, and how long a right answer is."""

    request: Request
    address: str
    answer_bytes: int


@dataclass(frozen=True)
class Load:
    """One run: calls answered and not, calls per second, and latencies in milliseconds of the answered ones."""

    requests: int
    errors: int
    per_second: float
    p50: float
    p90: float
    p99: float
    longest: float
    #: CPU of h2load itself, in microseconds per call; None in results from before it was measured.
    own_cpu: float | None = None


def check() -> str:
    """Return h2load's version.

    Raises
    ------
    BenchError
        It is not installed.
    """
    if not shutil.which("h2load"):
        raise BenchError("h2load is not there; run `make bench-tools`, or install nghttp2 (Debian: nghttp2-client)")
    return subprocess.run(["h2load", "--version"], capture_output=True, text=True, check=True).stdout.strip()


def warm_up(aim: Aim, clients: int, seconds: float, folder: Path) -> None:
    """Send a request unmeasured: connections, allocators and caches settle."""
    _run(aim, clients, seconds, folder)


def send(aim: Aim, clients: int, seconds: float, folder: Path) -> Load:
    """Send a request from so many clients for so long; the body and the log lie in a folder.

    Raises
    ------
    NobodyAnsweredError
        No call was answered.
    BenchError
        h2load failed.
    """
    # While h2load runs, no other child of this process ends.
    before = ended_children_cpu_seconds()
    printed, log = _run(aim, clients, seconds, folder)
    used = ended_children_cpu_seconds() - before
    # h2load does not read gRPC's status, but an error has no body.
    load = parse(printed, log, aim.answer_bytes if aim.request.http2 else 0)
    return replace(load, own_cpu=1e6 * used / (load.requests + load.errors))


def parse(printed: str, log: str, answer_bytes: int) -> Load:
    """Read what h2load printed and its log of calls: start in µs, status, µs until the answer's end.

    Raises
    ------
    NobodyAnsweredError
        No call was answered.
    BenchError
        h2load printed something else.
    """
    counts, traffic = _REQUESTS.search(printed), _TRAFFIC.search(printed)
    if not counts or not traffic:
        raise BenchError(f"h2load printed no summary:\n{printed}")
    answered: list[int] = []
    starts: list[int] = []
    ends: list[int] = []
    refused = 0
    for line in log.splitlines():
        start, status, took = map(int, line.split("\t"))
        if status == 200:
            starts.append(start)
            ends.append(start + took)
            answered.append(took)
        else:
            refused += 1
    if not answered:
        raise NobodyAnsweredError(f"no call was answered with 200; {refused} were with something else:\n{printed}")
    empty = 0
    if answer_bytes:
        empty = max(0, len(answered) - round(int(traffic.group(1)) / answer_bytes))
    elapsed = (max(ends) - min(starts)) / 1e6
    answered.sort()
    return Load(
        requests=len(answered) - empty,
        errors=refused + empty,
        per_second=(len(answered) - empty) / elapsed,
        p50=percentile(answered, 50) / 1000,
        p90=percentile(answered, 90) / 1000,
        p99=percentile(answered, 99) / 1000,
        longest=answered[-1] / 1000,
    )


def percentile(ordered: Sequence[int], percent: int) -> int:
    """Return the nearest rank: the smallest value that at least `percent` of all do not exceed."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _run(aim: Aim, clients: int, seconds: float, folder: Path) -> tuple[str, str]:
    body, log = folder / "body", folder / "h2load.log"
    body.write_bytes(aim.request.body)
    log.write_text("")
    command = _command(aim.request, aim.address, clients)
    command += [f"--duration={round(seconds * 1000)}ms", f"--data={body}", f"--log-file={log}"]
    command.append(f"http://{_host(aim.address)}{aim.request.path}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + GRACE_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"h2load did not end {GRACE_SECONDS} s after its time") from error
    if done.returncode:
        raise BenchError(f"h2load: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout, log.read_text()


def _command(request: Request, address: str, clients: int) -> list[str]:
    connections = min(clients, GRPC_CONNECTIONS) if request.http2 else clients
    command = ["h2load", "--threads=1", f"--clients={connections}"]
    command += [f"--max-concurrent-streams={clients // connections}"] if request.http2 else ["--h1"]
    if address.startswith("unix:"):
        command.append(f"--base-uri={address}")
    return command + [f"--header={name}: {value}" for name, value in request.headers.items()]


def _host(address: str) -> str:
    if address.startswith("unix:"):
        return "localhost"
    host, _, port = address.rpartition(":")
    if host != "127.0.0.1":
        raise BenchError(f"{address} is not on this machine's loopback")
    return f"{host}:{port}"

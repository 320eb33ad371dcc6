"""Processes of a server under test: started in a session of their own, so that none is left, and read from /proc."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
STOP_SECONDS = 15
LOG_TAIL = 1500


@dataclass(frozen=True)
class Program:
    """A running program and the file that holds all it printed."""

    popen: subprocess.Popen[bytes]
    log: Path

    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self.popen.poll() is not None

    def tail(self) -> str:
        """Return the end of what it printed."""
        return self.log.read_text(errors="replace")[-LOG_TAIL:]


@contextlib.contextmanager
def program(command: Sequence[str | Path], log: Path, environment: Mapping[str, str]) -> Iterator[Program]:
    """Run a program for the length of a block, with additions to the environment; its children end with it."""
    with (
        log.open("wb") as output,
        subprocess.Popen(
            list(command),
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            cwd=log.parent,
            start_new_session=True,
        ) as popen,
    ):
        try:
            yield Program(popen, log)
        finally:
            family = tree(popen.pid)
            if popen.poll() is None:
                popen.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                popen.wait(STOP_SECONDS)
            _end(popen.pid, family)


def _end(group: int, family: Mapping[int, float]) -> None:
    """End what outlives its parent: the rest of the group, and children that left it but are still the same."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    for pid, started in family.items():
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            if _started_at(pid) == started:
                os.kill(pid, signal.SIGKILL)


def tree(root: int) -> dict[int, float]:
    """Return the process and all its descendants, each with its start time in ticks since boot."""
    found: dict[int, float] = {}
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
            found[pid] = _started_at(pid)
            for thread in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())
    return found


def cpu_seconds(root: int) -> dict[int, float]:
    """Return user and system time of each process of a tree, in steps of 10 ms (proc(5))."""
    used: dict[int, float] = {}
    for pid in tree(root):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = _stat(pid)
            used[pid] = (int(fields[11]) + int(fields[12])) / TICKS
    return used


def cpu_between(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """Return the CPU seconds that a tree took; processes that came in between count whole."""
    return sum(used - before.get(pid, 0.0) for pid, used in after.items())


@dataclass(frozen=True)
class Memory:
    """Memory of a process tree, in bytes: resident, and with shared pages divided among their users."""

    resident: int
    proportional: int


def memory(root: int) -> Memory:
    """Return the memory of a process tree."""
    sums = {"Rss": 0, "Pss": 0}
    for pid in tree(root):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                key, _, value = line.partition(":")
                if key in sums:
                    sums[key] += int(value.split()[0]) * 1024
    return Memory(sums["Rss"], sums["Pss"])


def _started_at(pid: int) -> float:
    return float(_stat(pid)[19])


def _stat(pid: int) -> list[str]:
    # The command's name may hold anything, so fields count from its end: the first after it is the third of all.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def load_average() -> float:
    """Return how many processes ran or waited for a CPU, on average over the last minute."""
    return os.getloadavg()[0]


def settle(seconds: float) -> None:
    """Let caches, connections and freed memory of what was stopped come to rest."""
    time.sleep(seconds)

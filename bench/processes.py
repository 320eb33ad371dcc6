"""Processes of a server under test: started in a session of their own, so that none is left, and read from /proc.

Each carries a mark, so that a later run finds what a run that was killed could not end.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
STOP_SECONDS = 15
LOG_TAIL = 1500
COMMAND_LENGTH = 200
#: The variable that holds the run by which a program was started, also in its children: `PID@START`.
MARK = "POLYGLOT_BENCH_RUN"


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
            env={**os.environ, **environment, MARK: _named(os.getpid())},
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


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


def strays() -> dict[int, str]:
    """Return the command lines, by pid, of all programs of runs that are over."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        # Another user's processes can't be read, and any may have ended meanwhile.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            variables = (folder / "environ").read_bytes().split(b"\0")
            run = next((each for each in variables if each.startswith(MARK.encode() + b"=")), None)
            if run and not _alive(run.decode().partition("=")[2]):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found[int(folder.name)] = command.strip()[:COMMAND_LENGTH]
    return found


def _named(pid: int) -> str:
    return f"{pid}@{_started_at(pid):.0f}"


def _alive(run: str) -> bool:
    """Whether a run lives: pids are used again, so its start time counts, too."""
    try:
        return _named(int(run.partition("@")[0])) == run
    except (FileNotFoundError, ProcessLookupError):
        return False


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


def ended_children_cpu_seconds() -> float:
    """Return user and system time of all children of this process that have ended, to the microsecond."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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

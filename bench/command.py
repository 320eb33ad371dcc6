"""Commands of other programs, the one error of the benchmarks, and how the command of a benchmark begins and ends."""

import signal
import subprocess
import sys
from collections.abc import Callable
from typing import NoReturn

from bench import processes


class BenchError(Exception):
    """Nothing can be measured; the text says what was seen and what to do."""


def run(*command: str, stdin: str | None = None) -> str:
    """Run a command and return what it prints."""
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise BenchError(f"{command[0]} is not there; run `make venv tools` first") from error
    if done.returncode:
        raise BenchError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def perform(benchmark: Callable[[], int]) -> NoReturn:
    """Run a benchmark's command line and end with its status."""
    # Ended from outside, a run still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        sys.exit(benchmark())
    except BenchError as failure:
        sys.exit(f"bench failed: {failure}")


def refuse_strays() -> None:
    """Refuse to measure beside what an earlier run left.

    Raises
    ------
    BenchError
        Such processes live; it names them.
    """
    strays = processes.strays()
    if strays:
        told = "".join(f"\n  {pid} {command}" for pid, command in strays.items())
        pids = " ".join(map(str, strays))
        raise BenchError(f"an earlier run was killed and left these, which take CPU; `kill -9 {pids}` ends them:{told}")

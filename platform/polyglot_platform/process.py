"""Running other programs: output to a log file, failure as an error that names it."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from polyglot_platform.errors import CommandError, PlatformError


def run(
    command: list[str],
    *,
    log: Path | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    text_in: str | None = None,
    timeout: float | None = None,
) -> str:
    """Run a program to its end and return what it printed on both streams.

    `env` is added to our own environment. With `log` the output is appended there
    while the program runs, so that a person can follow a long build.
    """
    environment = {**os.environ, **(env or {})}
    start = log.stat().st_size if log and log.exists() else 0
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") if log else _Captured() as sink:
        try:
            done = subprocess.run(
                command,
                cwd=cwd,
                env=environment,
                input=text_in,
                stdin=subprocess.DEVNULL if text_in is None else None,
                stdout=sink,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=timeout,
                check=False,
            )
        except FileNotFoundError as missing:
            raise PlatformError(
                f"the program `{command[0]}` is not installed", f"install `{command[0]}`, or run `make tools` first"
            ) from missing
    output = _appended(log, start) if log else done.stdout
    if done.returncode:
        raise CommandError(command, done.returncode, output, log)
    return output


def succeeds(command: list[str], *, timeout: float | None = None) -> bool:
    """Whether a program exits with zero; its output is of no interest. No program or no answer in time is a no."""
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def pipe(producer: list[str], consumer: list[str], *, log: Path) -> None:
    """Run `producer | consumer`, both judged by their exit status."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as sink:
        start = log.stat().st_size
        first = subprocess.Popen(producer, stdout=subprocess.PIPE, stderr=sink)
        second = subprocess.Popen(consumer, stdin=first.stdout, stdout=sink, stderr=sink)
        if first.stdout:
            first.stdout.close()  # so that the producer gets SIGPIPE when the consumer dies
        second_status = second.wait()
        first_status = first.wait()
    for command, status in ((consumer, second_status), (producer, first_status)):
        if status:
            raise CommandError(command, status, _appended(log, start), log)


def _appended(log: Path, start: int) -> str:
    with log.open("rb") as written:
        written.seek(start)
        return written.read().decode(errors="replace")


class _Captured:
    """Stands for subprocess.PIPE where a context manager is wanted."""

    def __enter__(self) -> int:
        return subprocess.PIPE

    def __exit__(self, *_: object) -> None:
        return None

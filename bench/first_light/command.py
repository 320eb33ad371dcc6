"""Commands of other programs, and the one error of the benchmark."""

import subprocess


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

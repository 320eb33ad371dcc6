"""The one error this package lets out: what went wrong and what to do about it."""

from pathlib import Path


class PlatformError(Exception):
    """A problem a person can solve; `remedy` is an instruction, not a guess."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}\n  → {remedy}")
        self.problem = problem
        self.remedy = remedy


class CommandError(PlatformError):
    """A program we started exited non-zero; its output is in `log` where it wrote one."""

    def __init__(self, command: list[str], status: int, output: str, log: Path | None) -> None:
        tail = "\n".join(f"    {line}" for line in output.strip().splitlines()[-15:])
        super().__init__(
            f"`{' '.join(command)}` exited with status {status}:\n{tail}",
            f"read {log}, then run the same command again: finished parts are kept"
            if log
            else "correct the cause named above, then run the same command again",
        )
        self.status = status
        self.output = output

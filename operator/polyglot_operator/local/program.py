"""One of the two programs as a child process: its output, its end, and how it is asked to end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from polyglot_operator.local import logs
from polyglot_operator.manifests import InputError

_LONGEST_LINE = 64 * 1024


def locate(program: str, remedy: str) -> str:
    """Return the path of a program: a path, or a name looked for beside this Python and on PATH; raise `InputError`."""
    found = shutil.which(program, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if found is None:
        raise InputError(f"no program {program} was found; {remedy}")
    return found


class Program:
    """A running child process in a process group of its own: Ctrl-C reaches us, and we end it in order."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, show: Callable[[str], None]) -> None:
        self.name = name
        self._failure = ""
        self._process = process
        self._show = show
        self._ended = asyncio.create_task(self._follow())

    @classmethod
    async def start(
        cls, name: str, command: Sequence[str], environment: Mapping[str, str], show: Callable[[str], None], lock: int
    ) -> Self:
        """Start it; each line of its log goes to `show`, and with us it holds the `lock` of a folder that it uses.

        Raises `InputError` when it can't be executed.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                env=environment,
                stdin=asyncio.subprocess.PIPE,  # nothing is written to it: it ends with us, however we end
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[lock],
            )
        except OSError as error:
            raise InputError(f"{command[0]}: {error.strerror}") from error
        return cls(name, process, show)

    @property
    def ended(self) -> bool:
        """Whether it has ended and all it wrote was shown."""
        return self._ended.done()

    async def wait(self) -> int:
        """Wait until it has ended and all it wrote was shown; return its exit status, negative for a signal."""
        return await asyncio.shield(self._ended)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def last_words(self) -> str:
        """Return how it ended, in its own words."""
        status = self._ended.result()
        said = f": {self._failure}" if self._failure else ""
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return f"the {self.name} {how}{said}"

    async def _follow(self) -> int:
        async for line in self._lines():
            self._show(logs.readable(self.name, line))
            self._failure = logs.failure(line) or self._failure
        return await self._process.wait()

    async def _lines(self) -> AsyncIterator[str]:
        """Yield what it writes line by line; a line without end comes in pieces."""
        stream, rest = self._process.stdout, b""
        while stream and (chunk := await stream.read(_LONGEST_LINE)):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) >= _LONGEST_LINE:
                lines, rest = [*lines, rest], b""
            for line in lines:
                yield line.decode(errors="replace")
        if rest:
            yield rest.decode(errors="replace")

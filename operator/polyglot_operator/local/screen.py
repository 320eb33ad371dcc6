"""What a person sees: log lines that scroll by and, at a terminal, one line below them that is rewritten."""

from __future__ import annotations

import shutil
from typing import Final, TextIO

_CLEAR: Final = "\r\x1b[K"


class Screen:
    """Writes lines; where no terminal is, the live line becomes a line like any other."""

    def __init__(self, out: TextIO) -> None:
        self.is_terminal = out.isatty()
        self._out = out
        self._live = ""

    def show(self, line: str) -> None:
        """Write a line, above the live one."""
        self._write(f"{_CLEAR}{line}\n{self._live}" if self._live else f"{line}\n")

    def update(self, live: str) -> None:
        """Replace the live line; cut to the width of the terminal, since a wrapped line can't be rewritten."""
        if not self.is_terminal:
            self.show(live)
            return
        self._live = live[: shutil.get_terminal_size().columns - 1]
        self._write(_CLEAR + self._live)

    def close(self) -> None:
        """Take the live line away."""
        if self._live:
            self._write(_CLEAR)
            self._live = ""

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()

"""One line per component with the time it took."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO


class Progress:
    """Prints lines such as `  131.2s  kubernetes v1.36.3  built (84.0s)`, the first number since the start."""

    def __init__(self, stream: TextIO = sys.stdout, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._start = clock()
        self._lock = threading.Lock()

    def say(self, subject: str, what: str) -> None:
        """Print one line now."""
        with self._lock:
            elapsed = self._clock() - self._start
            print(f"{elapsed:7.1f}s  {subject:<34} {what}", file=self._stream, flush=True)

    @contextmanager
    def step(self, subject: str, done: str, announce: str = "") -> Iterator[None]:
        """Time a piece of work; `announce` is printed first when it will take long."""
        if announce:
            self.say(subject, announce)
        begun = self._clock()
        try:
            yield
        except BaseException:
            self.say(subject, f"FAILED after {self._clock() - begun:.1f}s")
            raise
        self.say(subject, f"{done} ({self._clock() - begun:.1f}s)")

"""What every server of the comparison is asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.processes import Program
from bench.rivals.wire import Wire
from bench.rivals.workloads import Workload

#: Rows that every server which batches may stack.
BATCH = 32
#: Nothing reports usage to anybody while it is measured.
QUIET = {
    "ORT_DISABLE_TELEMETRY": "1",
    "BENTOML_DO_NOT_TRACK": "True",
    "RAY_USAGE_STATS_ENABLED": "0",
    "PYTHONUNBUFFERED": "1",
}


@dataclass(frozen=True)
class Variant:
    """One way to configure a server; its best one counts."""

    workers: int
    batching: bool = False

    @property
    def title(self) -> str:
        """Return the configuration in words."""
        workers = f"{self.workers} worker{'s' if self.workers > 1 else ''}"
        return f"{workers}, batching" if self.batching else workers

    @property
    def threads(self) -> int:
        """Return how many threads a worker's model may use, so that all workers together have the CPUs once."""
        return max(1, (os.cpu_count() or 1) // self.workers)


ONE, TWO = Variant(1), Variant(2)
ONE_BATCHED, TWO_BATCHED = Variant(1, batching=True), Variant(2, batching=True)


@dataclass(frozen=True)
class Endpoint:
    """Where a protocol is spoken: `127.0.0.1:PORT` or `unix:PATH`."""

    address: str
    wire: Wire


@dataclass(frozen=True)
class Running:
    """A started server: its programs by role, and where it listens."""

    programs: Mapping[str, Program]
    endpoints: Sequence[Endpoint]


class Peer(Protocol):
    """A kind of server."""

    @property
    def name(self) -> str:
        """Name on the command line and in the raw results."""

    @property
    def title(self) -> str:
        """Name on the page."""

    @property
    def note(self) -> str:
        """How it is configured, for the page."""

    @property
    def version(self) -> str:
        """Its version."""

    @property
    def variants(self) -> Sequence[Variant]:
        """The ways to configure it, of which the best counts."""

    @property
    def protocols(self) -> Sequence[str]:
        """What it speaks."""

    def launch(self, variant: Variant, workload: Workload, folder: Path) -> AbstractContextManager[Running]:
        """Run it for the length of a block; it need not be ready when the block begins."""

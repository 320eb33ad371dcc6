"""What happens on the cluster while a test does something: the events of a watch, with the time of each."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.e2e.cluster import eventually


@dataclass(frozen=True)
class Event:
    """One event: when it came (seconds since the epoch), ADDED, MODIFIED or DELETED, and the object."""

    at: float
    type: str
    object: dict[str, Any]

    @property
    def revision(self) -> int:
        """The object's resource version, which orders the events of all kinds of one API server."""
        return int(self.object["metadata"]["resourceVersion"])


@contextmanager
def watching(context: str, *words: str) -> Iterator[list[Event]]:
    """Watch objects of one kind, of which there is at least one: `watching(context, "pods", "-n", namespace)`.

    The list grows until the block ends; it starts with an event for each object that exists.
    """
    events: list[Event] = []
    command = ["kubectl", "--context", context, "get", *words, "--watch", "--output-watch-events"]
    with subprocess.Popen(
        [*command, "-o", "json", "--show-managed-fields"], stdout=subprocess.PIPE, text=True
    ) as process:
        reader = threading.Thread(target=_read, args=(process, events))
        reader.start()
        try:
            eventually(lambda: events, bool, within=10, what=f"an event of {' '.join(words)}")
            yield events
        finally:
            process.terminate()
            reader.join()


def _read(process: subprocess.Popen[str], events: list[Event]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        events.append(Event(time.time(), event["type"], event["object"]))


def ready_replicas(events: list[Event]) -> list[int]:
    """Return how many ready pods the watched Deployments had, event by event."""
    return [event.object["status"].get("readyReplicas", 0) for event in events]


def verdicts(events: list[Event], kind: str) -> set[str]:
    """Return every status that a condition of the watched PolyglotServices had."""
    return {c["status"] for event in events for c in event.object["status"]["conditions"] if c["type"] == kind}

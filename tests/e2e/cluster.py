"""Commands bound to a cluster, and waiting for the state of the world."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")

REAL = "node-role.kubernetes.io/control-plane"
"""Selector of the node that is a machine, beside those that kwok pretends."""


class CommandError(AssertionError):
    """A command ended with a status other than 0; the text holds the command and what it printed."""


class Command(Protocol):
    """A tool bound to the cluster: words in, standard output out."""

    def __call__(self, *words: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Run the tool; raise `CommandError` when it fails."""
        ...


def bound(*prefix: str) -> Command:
    """Bind a command to its leading words."""

    def call(*words: str, stdin: str | None = None, timeout: float = 120) -> str:
        done = subprocess.run(
            [*prefix, *words], input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )
        if done.returncode:
            raise CommandError(f"{' '.join([*prefix, *words])}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    return call


def node_of(context: str) -> Command:
    """Run commands in the node of a kind cluster."""
    return bound("docker", "exec", f"{context.removeprefix('kind-')}-control-plane")


def eventually(read: Callable[[], T], holds: Callable[[T], bool], within: float, what: str) -> T:
    """Poll `read` until `holds` accepts its value; fail with the last value after `within` seconds.

    A failing command counts as "not yet", so that an object may still be on its way.
    """
    deadline = time.monotonic() + within
    last: object = None
    while time.monotonic() < deadline:
        try:
            value = read()
            if holds(value):
                return value
            last = value
        except CommandError as error:
            last = error
        time.sleep(0.3)
    raise AssertionError(f"{what} did not hold within {within:g} s; last seen: {last}")

"""Which namespaces the operator serves: all of the cluster, or those that it was told of.

Tests that are marked `core` run in both modes; see `pytest_generate_tests` in conftest.py.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from tests.e2e.audit import AuditLog, Request
from tests.e2e.cluster import Command

CHART = Path(__file__).resolve().parents[2] / "charts" / "polyglot-operator"
OPERATOR_NAMESPACE = "polyglot-system"
OPERATOR_PODS = ("pods", "-n", OPERATOR_NAMESPACE, "-l", "app.kubernetes.io/name=polyglot-operator")
SERVED = 16
"""Namespaces of the namespaced mode: one for each core file and each core test that wants one of its own."""


class Mode(Protocol):
    """Hands out namespaces that the operator serves."""

    def take(self) -> str:
        """Return an empty namespace."""
        ...

    def give_back(self, namespace: str) -> None:
        """Take a namespace back with all that is in it."""
        ...


@dataclass(frozen=True)
class ClusterMode:
    """The operator serves every namespace: each test gets a new one."""

    kubectl: Command

    def take(self) -> str:
        """Create a namespace."""
        return fresh_namespace(self.kubectl)

    def give_back(self, namespace: str) -> None:
        """Delete it; it may go on terminating for a while."""
        self.kubectl("delete", "namespace", namespace, "--wait=false")


@dataclass(frozen=True)
class NamespacedMode:
    """The operator serves a few namespaces, which stay until the mode ends: its roles are in them.

    `before` is a mark in the audit log before it `started` to.
    """

    kubectl: Command
    audit: AuditLog
    namespaces: tuple[str, ...]
    before: int
    started: datetime
    free: list[str] = field(default_factory=list)

    def take(self) -> str:
        """Return one that no test has had yet."""
        assert self.free, f"more than {SERVED} namespaces are wanted: raise modes.SERVED"
        return self.free.pop()

    def give_back(self, namespace: str) -> None:
        """Delete its services, so that their pods leave the node to others."""
        self.kubectl("delete", "polyglotservices", "--all", "-n", namespace)

    def requests(self) -> list[Request]:
        """Return what the operator has asked of the API server in this mode."""
        return [request for request in self.audit.since(self.before) if request.time >= self.started]


def fresh_namespace(kubectl: Command, prefix: str = "e2e") -> str:
    """Create a namespace with a name of its own."""
    name = f"{prefix}-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    return name


def install(helm: Command, images: dict[str, str], *options: str) -> str:
    """Install or upgrade the operator's release as `make install` does, with options of a test's own."""
    chosen = (
        f"image={images['OPERATOR_IMAGE']}",
        f"images.gateway={images['GATEWAY_IMAGE']}",
        f"images.inference={images['INFERENCE_IMAGE']}",
    )
    sets = [word for choice in chosen for word in ("--set", choice)]
    command = ("upgrade", "--install", "polyglot-operator", str(CHART), "-n", OPERATOR_NAMESPACE)
    return helm(*command, "--wait", "--timeout", "3m", *sets, *options, timeout=240)


@contextmanager
def namespaced(kubectl: Command, helm: Command, images: dict[str, str], audit: AuditLog) -> Iterator[NamespacedMode]:
    """Let the operator serve a few new namespaces and nothing else; afterwards the whole cluster again."""
    names = tuple(fresh_namespace(kubectl, "served") for _ in range(SERVED))
    before = audit.mark()
    with ExitStack() as afterwards:
        afterwards.callback(kubectl, "delete", "namespace", *names, "--wait=false")
        afterwards.callback(install, helm, images)
        install(helm, images, "--set", f"watch.namespaces={{{','.join(names)}}}")
        (pod,) = json.loads(kubectl("get", *OPERATOR_PODS, "-o", "json"))["items"]
        started = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
        yield NamespacedMode(kubectl, audit, names, before, started, list(names))

"""A kind cluster: created, repaired or left as it is, whatever state it is found in."""

import json
import socket
import time
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

import yaml

from polyglot_platform import kind_config
from polyglot_platform.errors import PlatformError
from polyglot_platform.images import LABEL
from polyglot_platform.places import Places
from polyglot_platform.process import run, succeeds
from polyglot_platform.progress import Progress

COMPLETE = "/kind/complete"
"""A file in the node that exists once `kind create cluster` has finished: an interrupted creation is no cluster."""

RECOVERY_SECONDS = 30


class ClusterName(StrEnum):
    """The clusters of this host that are ours."""

    MAIN = "polyglot"
    BARE = "polyglot-bare"
    """Kubernetes and nothing else, where the operator has to do without Istio."""

    @property
    def context(self) -> str:
        """The kubeconfig's context."""
        return f"kind-{self}"

    @property
    def container(self) -> str:
        """The one node."""
        return f"{self}-control-plane"

    @property
    def arguments(self) -> str:
        """What the Makefile's targets need to be told to work on this cluster."""
        return " BARE=1" if self is ClusterName.BARE else ""


class Cluster:
    """One of our clusters."""

    def __init__(self, places: Places, progress: Progress, name: ClusterName) -> None:
        self.name = name
        self._places = places
        self._progress = progress
        self._kind = str(places.bin / "kind")

    def ensure(self, node_image: str | None, config: Mapping[str, Any]) -> None:
        """Return when the API server answers; `node_image` None means kind's own.

        The main cluster's context becomes the current one; another leaves the user's choice alone.
        """
        current = self._kubectl("config", "view", "--output=jsonpath={.current-context}")
        state = self._container_state()
        if state is None:
            self._create(node_image, config)
        elif not self._answers():
            self._repair(node_image, config, state)
        else:
            self._note_other_image(node_image)
        run([self._kind, "export", "kubeconfig", "--name", self.name])
        if current and self.name is not ClusterName.MAIN:
            self._kubectl("config", "use-context", current)

    def delete(self) -> None:
        """Delete the cluster and its kubeconfig entry."""
        found = self._container_state()
        with self._progress.step(f"cluster {self.name}", "deleted" if found else "there was none"):
            run([self._kind, "delete", "cluster", "--name", self.name])

    def holds(self, reference: str) -> bool:
        """Whether the node has an image."""
        return succeeds(["docker", "exec", self.name.container, "crictl", "inspecti", reference])

    def load(self, references: list[str]) -> None:
        """Copy images from the engine to the node where it lacks them."""
        if self._container_state() != "running":
            raise PlatformError(
                f"{self.name} does not run, so no images can be loaded into it",
                f"run `make cluster{self.name.arguments}` first",
            )
        missing = [reference for reference in references if not self.holds(reference)]
        if missing:
            with self._progress.step(f"{len(missing)} image(s)", f"loaded: {', '.join(missing)}"):
                run(
                    [self._kind, "load", "docker-image", "--name", self.name, *missing],
                    log=self._places.log("kind-load"),
                )

    def started_at(self) -> datetime:
        """When the node's container last started."""
        return datetime.fromisoformat(
            run(["docker", "inspect", "--format", "{{.State.StartedAt}}", self.name.container]).strip()
        )

    def describe(self) -> str:
        """One line on the state of the node, for `status`."""
        state = self._container_state()
        if state is None:
            return f"no cluster: `make cluster{self.name.arguments}` creates it"
        if not self._answers():
            silent = f"node container is {state} and the API server does not answer"
            return f"{silent}: `make cluster{self.name.arguments}` repairs it"
        return "API server answers"

    def _create(self, node_image: str | None, config: Mapping[str, Any]) -> None:
        require_free_ports(kind_config.host_ports(config))
        image = ["--image", node_image] if node_image else []
        log = self._places.log("kind-create")
        with self._progress.step(f"cluster {self.name}", "created", announce=f"creating, log: {log}"):
            create = [self._kind, "create", "cluster", *image, "--config=-"]
            # In the repository's root, which the file's relative mounts refer to.
            run(create, cwd=self._places.root, text_in=yaml.safe_dump(dict(config)), log=log)
            run(["docker", "exec", self.name.container, "touch", COMPLETE])

    def _repair(self, node_image: str | None, config: Mapping[str, Any], state: str) -> None:
        """Least first: start the container, then restart its services, then make a new cluster."""
        subject = f"cluster {self.name}"
        if state != "running":
            started = succeeds(["docker", "start", self.name.container])  # not where a mounted checkout is gone
            self._progress.say(
                subject, f"node container was {state}: {'started again' if started else 'can not start'}"
            )
        if self._complete():
            self._progress.say(subject, "waiting for its API server")
            if self._recovers(RECOVERY_SECONDS):
                return
            with self._progress.step(subject, "API server was silent: node services restarted"):
                succeeds(["docker", "exec", self.name.container, "systemctl", "restart", "containerd", "kubelet"])
            if self._recovers(RECOVERY_SECONDS):
                return
        self._progress.say(subject, "beyond repair or never finished: deleting it and creating it anew")
        self.delete()
        self._create(node_image, config)

    def _complete(self) -> bool:
        return succeeds(["docker", "exec", self.name.container, "test", "-e", COMPLETE])

    def _recovers(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._answers():
                return True
            time.sleep(0.5)
        return False

    def _answers(self) -> bool:
        """Whether creation finished and the API server is ready, asked inside the node: no kubeconfig needed."""
        ready = "kubectl --kubeconfig=/etc/kubernetes/admin.conf --request-timeout=5s get --raw=/readyz"
        return succeeds(
            ["docker", "exec", self.name.container, "sh", "-c", f"test -e {COMPLETE} && {ready}"], timeout=10
        )

    def _container_state(self) -> str | None:
        """Docker's word for the node's state: running, exited, …; None when there is no node."""
        command = ["docker", "ps", "--all", "--filter", f"name=^{self.name.container}$", "--format", "{{.State}}"]
        return run(command).strip() or None

    def _kubectl(self, *words: str) -> str:
        return run([str(self._places.bin / "kubectl"), *words]).strip()

    def _note_other_image(self, node_image: str | None) -> None:
        if node_image is None:
            return
        container = json.loads(run(["docker", "inspect", self.name.container]))[0]
        running = container["Config"]["Image"]
        if running != node_image and LABEL in container["Config"]["Labels"]:
            move = f"make cluster-down cluster{self.name.arguments}"
            self._progress.say(f"cluster {self.name}", f"kept on {running}; `{move}` moves it to {node_image}")


def require_free_ports(addresses: list[tuple[str, int]]) -> None:
    """Refuse to create a cluster whose ports another program holds: kind would fail half-way with docker's words."""
    taken = [f"{host}:{port}" for host, port in addresses if not _is_free(host, port)]
    if taken:
        raise PlatformError(
            f"another program listens on {', '.join(taken)}, which the cluster publishes",
            "find it with `ss -ltnp` and stop it, or change hostPort in kind-config.yaml",
        )


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((host, port))
        except OSError:
            return False
    return True

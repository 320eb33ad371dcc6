"""The operator's own pod: what it counts, and how it is restarted and killed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.cluster import Command, eventually
from tests.e2e.modes import OPERATOR_NAMESPACE

Samples = dict[str, list[tuple[dict[str, str], float]]]

_DEPLOYMENT: Final = ("-n", OPERATOR_NAMESPACE, "deployment/polyglot-operator")


@dataclass(frozen=True)
class Pod:
    """One pod of the operator as it was read."""

    name: str
    uid: str
    ready: bool
    restarts: int
    container: str
    """Id of the container that runs, empty while none does."""


@dataclass(frozen=True)
class OperatorPod:
    """The operator under test; `node` runs commands in the node's container."""

    kubectl: Command
    node: Command

    def read(self) -> Pod | None:
        """Return the living pod, None while there is none."""
        found = json.loads(
            self.kubectl(
                "get", "pods", "-n", OPERATOR_NAMESPACE, "-l", "app.kubernetes.io/name=polyglot-operator", "-o", "json"
            )
        )["items"]
        living = [_pod(pod) for pod in found if "deletionTimestamp" not in pod["metadata"]]
        return living[0] if living else None

    def wait(self, within: float = 60) -> Pod:
        """Wait until it is ready."""
        found = eventually(self.read, lambda pod: pod is not None and pod.ready, within, "a ready operator")
        assert found is not None
        return found

    def kill(self) -> str:
        """Send SIGKILL to the process in its container, from the node, as soon as it runs; return the pod's name."""
        pod = eventually(self.read, lambda pod: pod is not None and pod.container != "", 60, "a running operator")
        assert pod is not None
        pid = self.node("crictl", "inspect", "--output=go-template", "--template={{.info.pid}}", pod.container).strip()
        self.node("kill", "-KILL", pid)
        return pod.name

    def replace(self, pod: str) -> None:
        """Let a new pod take the place of a killed one, whose restarts the kubelet would put off ever longer."""
        self.kubectl("delete", "pod", pod, "-n", OPERATOR_NAMESPACE, "--grace-period=0", "--force")

    def restart(self) -> Pod:
        """Replace it in good order, as an upgrade does."""
        self.kubectl("rollout", "restart", *_DEPLOYMENT)
        self.kubectl("rollout", "status", *_DEPLOYMENT, "--timeout=120s")
        return self.wait()

    def metrics(self) -> Samples:
        """Return its metrics by name, as Prometheus would scrape them."""
        pod = self.wait()
        path = f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{pod.name}:8081/proxy/metrics"
        return samples(self.kubectl("get", "--raw", path))


def samples(text: str) -> Samples:
    """Read the Prometheus text format; a metric that has no sample yet is there with none."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        found.setdefault(f"{family.name}_total" if family.type == "counter" else family.name, [])
        for sample in family.samples:
            found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return found


def total(samples: Samples, name: str, **labels: str) -> float:
    """Return the sum of a metric over everything that has the given labels; 0 for one that has not been seen."""
    return sum(value for has, value in samples.get(name, ()) if labels.items() <= has.items())


def _pod(pod: dict[str, Any]) -> Pod:
    status = pod["status"]
    conditions = {condition["type"]: condition["status"] for condition in status.get("conditions", ())}
    containers: list[dict[str, Any]] = status.get("containerStatuses") or [{}]
    (container,) = containers
    running = container.get("containerID", "").rpartition("//")[2] if "running" in container.get("state", {}) else ""
    metadata = pod["metadata"]
    ready = conditions.get("Ready") == "True"
    return Pod(metadata["name"], metadata["uid"], ready, container.get("restartCount", 0), running)

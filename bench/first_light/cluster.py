"""The digits example on the kind cluster, entered by the ports that kind publishes on 127.0.0.1."""

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bench.command import BenchError, run
from bench.first_light.measure import DIGITS

CONTEXT = os.environ.get("POLYGLOT_CONTEXT", "kind-polyglot")
NAMESPACE = "polyglot-demo"
#: Name in the table, by mesh mode of the PolyglotService.
CASES = {"Istio": "kind, with mesh", "None": "kind, without mesh"}


def kubectl(*words: str, stdin: str | None = None) -> str:
    """Run kubectl on the benchmark's cluster."""
    return run("kubectl", "--context", CONTEXT, *words, stdin=stdin)


class ClusterService:
    """The digits service in one mesh mode."""

    targets: Mapping[str, str] = {"rest": "127.0.0.1:8000", "grpc": "127.0.0.1:8001"}

    def __init__(self, case: str) -> None:
        self.case = case
        self._nodes = nodes_of(service_pods())

    def cpu_seconds(self) -> dict[str, float]:
        """Return the CPU time of each component and its sidecar, read from their cgroups now.

        The container runtime is asked, because the kubelet's own metrics are up to 15 s old: older than a measurement.
        """
        return cpu_by_process(
            container
            for node in self._nodes
            for container in json.loads(run("docker", "exec", node, "crictl", "stats", "-o", "json"))["stats"]
        )


def nodes_of(pods: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the nodes that run the pods."""
    return sorted({pod["spec"]["nodeName"] for pod in pods})


def cpu_by_process(containers: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return CPU seconds by process, from the container runtimes' statistics of all containers."""
    used: dict[str, float] = {}
    for container in containers:
        labels = container["attributes"]["labels"]
        process = process_name(labels["io.kubernetes.pod.name"], labels["io.kubernetes.container.name"])
        ended = "cpu" not in container  # such as istio-init, which prepared the pod's network
        if labels["io.kubernetes.pod.namespace"] == NAMESPACE and process and not ended:
            used[process] = used.get(process, 0) + int(container["cpu"]["usageCoreNanoSeconds"]["value"]) / 1e9
    return used


def process_name(pod: str, container: str) -> str | None:
    """Return the process's name in the table; None for what is not part of the digits service."""
    for component in ("gateway", "inference"):
        if pod.startswith(f"digits-{component}-"):
            return f"{component} sidecar" if container == "istio-proxy" else component
    return None


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Apply the example, and leave it as its files declare it."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    kubectl("apply", "-f", "-", stdin=json.dumps(namespace))
    kubectl("apply", "-n", NAMESPACE, "-f", str(DIGITS / "model.yaml"), "-f", str(DIGITS / "digits.yaml"))
    try:
        yield
    finally:
        switch_mesh("Istio")


def services() -> Iterator[ClusterService]:
    """Give the one service with the mesh, then without: two at once would share the CPUs and the ports."""
    for mode, case in CASES.items():
        switch_mesh(mode)
        yield ClusterService(case)


def switch_mesh(mode: str, within: float = 240) -> None:
    """Set the mesh mode and wait until the service is Ready and no pod of the other mode or an older one is left."""
    patch = json.dumps({"spec": {"mesh": {"mode": mode}}})
    kubectl("patch", "polyglotservice", "digits", "-n", NAMESPACE, "--type", "merge", "-p", patch)
    deadline = time.monotonic() + within
    kubectl("wait", "polyglotservice/digits", "-n", NAMESPACE, "--for=condition=Ready", f"--timeout={within:g}s")
    while others := pods_in_the_way(mode):
        if time.monotonic() > deadline:
            raise BenchError(f"pods of another mesh mode, or ending ones, are still there: {', '.join(others)}")
        time.sleep(1)


def pods_in_the_way(mode: str) -> list[str]:
    """Return the service's pods that have a sidecar and should not, or the other way round, or that are ending."""
    return [
        pod["metadata"]["name"]
        for pod in service_pods()
        if has_sidecar(pod) != (mode == "Istio") or "deletionTimestamp" in pod["metadata"]
    ]


def service_pods() -> list[dict[str, Any]]:
    """Return the service's pods as they are now."""
    pods = kubectl("get", "pods", "-n", NAMESPACE, "-l", "polyglot.dev/service=digits", "-o", "json")
    found: list[dict[str, Any]] = json.loads(pods)["items"]
    return found


def has_sidecar(pod: Mapping[str, Any]) -> bool:
    """Return whether the pod has a proxy, native sidecar or not."""
    containers = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
    return any(container["name"] == "istio-proxy" for container in containers)

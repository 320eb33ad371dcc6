"""Nodes without a machine, for tests of many services: kwok says of the pods on them that they run.

kwok runs as a process on this host. Its nodes are tainted, so that only pods that ask for them land there; they lack
the label `kubernetes.io/os`, so that no DaemonSet wants to be there either.
Source: https://kwok.sigs.k8s.io/docs/user/kwok-in-cluster/
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.e2e.cluster import REAL, Command, bound

NODES: Final = 2
LABEL: Final = "kwok.x-k8s.io/node"
"""Key of the nodes' taint and, with the run's name as its value, of their label."""

_PROGRAM: Final = Path(__file__).resolve().parents[2] / ".bin" / "kwok"
_STAGES: Final = (
    "node/fast/node-initialize",
    "node/heartbeat-with-lease/node-heartbeat-with-lease",
    *(f"pod/fast/pod-{stage}" for stage in ("ready", "complete", "delete")),
)
_COMPONENTS: Final = ("inference", "gateway")


@dataclass(frozen=True)
class FakeNodes:
    """The fake nodes of one run of the tests."""

    run: str

    @property
    def scheduling(self) -> dict[str, Any]:
        """Scheduling of a component whose pods shall be on these nodes."""
        return {
            "nodeSelector": {LABEL: self.run},
            "tolerations": [{"key": LABEL, "operator": "Exists", "effect": "NoSchedule"}],
        }

    def spec(self, **sections: dict[str, Any]) -> dict[str, Any]:
        """Return the sections of a spec whose pods are all on these nodes, over what is given of each."""
        components = {name: {**sections.get(name, {}), "scheduling": self.scheduling} for name in _COMPONENTS}
        return {**sections, **components}


@contextmanager
def fake_nodes(context: str, kubectl: Command) -> Iterator[FakeNodes]:
    """Run kwok with a few nodes of its own; afterwards they and their pods are gone."""
    _remove_dead(kubectl)
    nodes = FakeNodes(f"fake-{uuid.uuid4().hex[:8]}")
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+") as log:
        kubeconfig = Path(folder) / "kubeconfig"
        kubeconfig.write_text(bound("kubectl", "--context", context)("config", "view", "--minify", "--raw"))
        stages = _PROGRAM.resolve().parent / "kustomize" / "stage"
        command = [
            *(str(_PROGRAM), f"--kubeconfig={kubeconfig}", *(f"--config={stages / s}.yaml" for s in _STAGES)),
            *("--manage-all-nodes=false", f"--manage-nodes-with-label-selector={LABEL}={nodes.run}"),
            *("--node-lease-duration-seconds=40", f"--node-ip={_host_address(context)}"),
        ]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            (real,) = json.loads(kubectl("get", "nodes", "-l", REAL, "-o", "json"))["items"]
            for number in range(NODES):
                kubectl("create", "-f", "-", stdin=json.dumps(_node(nodes.run, number, real["status"]["nodeInfo"])))
            kubectl("wait", "node", "-l", f"{LABEL}={nodes.run}", "--for=condition=Ready", "--timeout=60s")
            yield nodes
            assert process.poll() is None, f"kwok has ended:\n{Path(log.name).read_text()[-2000:]}"
        finally:
            _remove(kubectl, f"{LABEL}={nodes.run}")
            process.terminate()
            process.wait()


def _host_address(context: str) -> str:
    """Return this host's address on the node's network; no kubelet listens there, and who asks is refused at once."""
    networks = "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}"
    return bound("docker", "inspect", "--format", networks)(f"{context.removeprefix('kind-')}-control-plane").strip()


def _node(run: str, number: int, like: dict[str, str]) -> dict[str, Any]:
    """Describe a node of the real one's version: Istio injects native sidecars only where every kubelet knows them."""
    name = f"{run}-{number}"
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {LABEL: run, "kubernetes.io/hostname": name}},
        "spec": {"taints": [{"key": LABEL, "value": run, "effect": "NoSchedule"}]},
        "status": {"nodeInfo": like},
    }


def _remove_dead(kubectl: Command) -> None:
    """Remove nodes of runs that were killed: no kwok renews their leases."""
    for node in json.loads(kubectl("get", "nodes", "-l", LABEL, "-o", "json"))["items"]:
        conditions = {condition["type"]: condition["status"] for condition in node["status"].get("conditions", ())}
        if conditions.get("Ready") == "Unknown":
            _remove(kubectl, f"{LABEL}={node['metadata']['labels'][LABEL]}")


def _remove(kubectl: Command, selector: str) -> None:
    """Delete nodes and what is left on them."""
    kubectl("cordon", "-l", selector)
    for node in kubectl("get", "nodes", "-l", selector, "-o", "name").split():
        on_it = f"--field-selector=spec.nodeName={node.removeprefix('node/')}"
        kubectl("delete", "pods", "--all-namespaces", on_it, "--grace-period=0", "--force")
    kubectl("delete", "nodes", "-l", selector)

"""Pods that call services from inside the cluster: in or out of the mesh, under a service account of their own.

They run Python scripts in the inference image, which carries grpc, the protocol's messages and numpy.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests.e2e.cluster import Command, CommandError


@dataclass(frozen=True)
class ClientPod:
    """A running pod that Python scripts are sent to."""

    kubectl: Command
    namespace: str
    name: str

    def python(self, script: str) -> str:
        """Run a script in the pod and return what it prints; a failing script raises `CommandError`."""
        words = ("exec", "-i", "-n", self.namespace, self.name, "-c", "client", "--", "/opt/venv/bin/python", "-")
        return self.kubectl(*words, stdin=script)

    def refused(self, script: str) -> str:
        """Run a script that must fail and return the error it ended with."""
        try:
            answer = self.python(script)
        except CommandError as error:
            return str(error)
        raise AssertionError(f"expected a refusal, got: {answer}")


@dataclass(frozen=True)
class ClientPods:
    """Makes client pods in one namespace."""

    kubectl: Command
    namespace: str
    image: str

    def start(self, name: str, *, mesh: bool, service_account: str = "default") -> ClientPod:
        """Create a client pod and wait until it runs; with `mesh` it gets a sidecar of its own."""
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"sidecar.istio.io/inject": "true" if mesh else "false"}},
            "spec": {
                "serviceAccountName": service_account,
                "terminationGracePeriodSeconds": 0,
                "containers": [
                    {
                        "name": "client",
                        "image": self.image,
                        "command": ["/opt/venv/bin/python", "-c", "import threading; threading.Event().wait()"],
                        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
                    }
                ],
            },
        }
        self.kubectl("apply", "-n", self.namespace, "-f", "-", stdin=json.dumps(pod))
        self.kubectl("wait", "-n", self.namespace, f"pod/{name}", "--for=condition=Ready", "--timeout=90s")
        return ClientPod(self.kubectl, self.namespace, name)

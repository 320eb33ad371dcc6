"""Pods that call services from inside the cluster: in or out of the mesh, under a service account of their own.

They run Python scripts in the inference image, which carries grpc, the protocol's messages and numpy.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.e2e.cluster import Command, CommandError


@dataclass(frozen=True)
class ClientPod:
    """A running pod that Python scripts are sent to."""

    kubectl: Command
    namespace: str
    name: str

    def python(self, script: str, timeout: float = 120) -> str:
        """Run a script in the pod and return what it prints; a failing script raises `CommandError`."""
        words = ("exec", "-i", "-n", self.namespace, self.name, "-c", "client", "--", "/opt/venv/bin/python", "-")
        return self.kubectl(*words, stdin=script, timeout=timeout)

    def post(self, url: str, body: object) -> Any:
        """Send JSON from inside the cluster and return the JSON that is answered."""
        script = f"""
import urllib.request
request = urllib.request.Request({url!r}, data={json.dumps(body)!r}.encode())
print(urllib.request.urlopen(request, timeout=15).read().decode())
"""
        return json.loads(self.python(script))

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

    def start(self, name: str, *, mesh: bool, service_account: str = "default", claim: str | None = None) -> ClientPod:
        """Create a client pod and wait until it runs.

        With `mesh` it gets a sidecar of its own, with `claim` that volume claim at /claim, which it may write to as
        root: a host-path volume belongs to root.
        """
        volumes: list[dict[str, object]] = [{"name": "tmp", "emptyDir": {}}]
        mounts: list[dict[str, object]] = [{"name": "tmp", "mountPath": "/tmp"}]
        if claim:
            volumes.append({"name": "claim", "persistentVolumeClaim": {"claimName": claim}})
            mounts.append({"name": "claim", "mountPath": "/claim"})
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"sidecar.istio.io/inject": "true" if mesh else "false"}},
            "spec": {
                "serviceAccountName": service_account,
                "terminationGracePeriodSeconds": 0,
                "securityContext": {"runAsUser": 0 if claim else 65532},
                "volumes": volumes,
                "containers": [
                    {
                        "name": "client",
                        "image": self.image,
                        "command": ["/opt/venv/bin/python", "-c", "import threading; threading.Event().wait()"],
                        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
                        "volumeMounts": mounts,
                    }
                ],
            },
        }
        self.kubectl("apply", "-n", self.namespace, "-f", "-", stdin=json.dumps(pod))
        self.kubectl("wait", "-n", self.namespace, f"pod/{name}", "--for=condition=Ready", "--timeout=90s")
        return ClientPod(self.kubectl, self.namespace, name)

"""Bare pods of the platform's tests."""

import json
from dataclasses import dataclass
from typing import Any

from tests.e2e.cluster import Command

SLEEP = ("sleep", "infinity")

NOBODY = 65534
"""The sidecar's own user, which its image starts under, is exempt from the mesh: our processes take another."""


@dataclass(frozen=True)
class Pod:
    """A running pod."""

    kubectl: Command
    namespace: str
    name: str

    def run(self, *command: str) -> str:
        """Run a command in the pod's own container and return what it prints."""
        return self.kubectl("exec", "-n", self.namespace, self.name, "-c", "main", "--", *command)

    def http_status(self, url: str) -> str:
        """The status code of a GET, `000` when the connection was refused or cut."""
        script = f"curl --silent --output /dev/null --max-time 10 --write-out '%{{http_code}}' {url} || true"
        return self.run("sh", "-c", script)

    def read(self) -> dict[str, Any]:
        """The object as the API server has it."""
        found: dict[str, Any] = json.loads(
            self.kubectl("get", "pod", self.name, "-n", self.namespace, "-o", "json"),
        )
        return found


@dataclass(frozen=True)
class Pods:
    """Makes pods in one namespace."""

    kubectl: Command
    namespace: str

    def start(
        self,
        name: str,
        image: str,
        *,
        command: tuple[str, ...] = SLEEP,
        mesh: bool = False,
        service_account: str = "default",
        container: dict[str, Any] | None = None,
        pod: dict[str, Any] | None = None,
    ) -> Pod:
        """Create a pod and wait until it is Ready; `container` and `pod` add to the container and to the pod's spec."""
        if service_account != "default":
            self.kubectl("create", "serviceaccount", service_account, "-n", self.namespace)
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "labels": {"app": name, "sidecar.istio.io/inject": "true" if mesh else "false"},
            },
            "spec": {
                "serviceAccountName": service_account,
                "terminationGracePeriodSeconds": 0,
                "containers": [
                    {
                        "name": "main",
                        "image": image,
                        "imagePullPolicy": "IfNotPresent",
                        "securityContext": {"runAsUser": NOBODY},
                        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
                        **({"command": list(command)} if command else {}),
                        **(container or {}),
                    }
                ],
                **(pod or {}),
            },
        }
        self.kubectl("apply", "-n", self.namespace, "-f", "-", stdin=json.dumps(body))
        self.kubectl("wait", "-n", self.namespace, f"pod/{name}", "--for=condition=Ready", "--timeout=90s")
        return Pod(self.kubectl, self.namespace, name)

"""A PolyglotService as a test sees it: applied from an example, judged by its conditions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import digits as example
from tests.e2e.clients import ClientPod
from tests.e2e.cluster import Command, eventually

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DEMO_NAMESPACE = "polyglot-demo"


@dataclass(frozen=True)
class Service:
    """One PolyglotService by namespace and name."""

    kubectl: Command
    namespace: str
    name: str

    def apply(self, *files: str) -> None:
        """Apply example files, named relative to examples/, into the service's namespace."""
        for file in files:
            self.kubectl("apply", "-n", self.namespace, "-f", str(EXAMPLES / file))

    def read(self) -> dict[str, Any]:
        """Return the object as the API server has it."""
        found: dict[str, Any] = json.loads(
            self.kubectl("get", "polyglotservice", self.name, "-n", self.namespace, "-o", "json")
        )
        return found

    def condition(self, kind: str) -> dict[str, Any]:
        """Return a condition judged at the current generation, or {} while there is none."""
        service = self.read()
        for condition in service.get("status", {}).get("conditions", []):
            if condition["type"] == kind and condition["observedGeneration"] == service["metadata"]["generation"]:
                return dict(condition)
        return {}

    def wait(self, kind: str, status: str, reason: str | None = None, within: float = 120) -> dict[str, Any]:
        """Wait until a condition has the given status (and reason) at the current generation; return it."""
        return eventually(
            lambda: self.condition(kind),
            lambda seen: seen.get("status") == status and reason in (None, seen.get("reason")),
            within,
            f"{kind}={status} {reason or ''} of {self.namespace}/{self.name}",
        )

    def wait_ready(self, within: float = 180) -> dict[str, Any]:
        """Wait for Ready=True at the current generation."""
        return self.wait("Ready", "True", within=within)

    def infer_url(self, model: str) -> str:
        """Return where the service's gateway takes inference requests for a model, inside the cluster."""
        return f"http://{self.name}-gateway.{self.namespace}.svc.cluster.local:8000/v2/models/{model}/infer"

    def pods(self, component: str) -> list[dict[str, Any]]:
        """Return the living pods of `gateway` or `inference`."""
        selector = f"polyglot.dev/service={self.name},polyglot.dev/component={component}"
        found = json.loads(self.kubectl("get", "pods", "-n", self.namespace, "-l", selector, "-o", "json"))
        return [pod for pod in found["items"] if "deletionTimestamp" not in pod["metadata"]]


def assert_predicts_as_onnx_runtime(client: ClientPod, service: Service) -> None:
    """Compare the labels of held-out digits with those that ONNX Runtime gives by itself."""
    pixels = example.held_out()[:5]
    label, _ = example.rest_answer(client.post(service.infer_url("digits"), example.rest_body(pixels)))
    assert label.tolist() == example.oracle(pixels)[0].tolist()

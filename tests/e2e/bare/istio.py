"""Istio in the bare cluster, installed and removed as a person does it."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tests.e2e.cluster import Command, CommandError, bound, eventually

APIS = ("networking.istio.io/v1", "security.istio.io/v1", "telemetry.istio.io/v1")
"""What the operator writes."""
OPERATOR = ("-n", "polyglot-system", "deployment/polyglot-operator")


def log_lines(kubectl: Command) -> list[dict[str, Any]]:
    """Return everything that the operator has logged."""
    return [json.loads(line) for line in kubectl("logs", *OPERATOR, "--tail=-1").splitlines()]


@dataclass(frozen=True)
class Istio:
    """Istio in one cluster, there or not."""

    kubectl: Command
    context: str

    def install(self) -> None:
        """Install it with the platform's values; return when istiod is ready."""
        bound(sys.executable, "-m", "polyglot_platform")("istio", "--bare", timeout=300)

    def install_behind(self, pool: ThreadPoolExecutor) -> None:
        """Start installing and return as soon as its APIs are served, which is well before istiod is ready."""
        installing = pool.submit(self.install)
        eventually(lambda: self.is_served or installing.done(), bool, 120, "Istio's APIs served")
        if installing.done():
            installing.result()

    def remove(self) -> None:
        """Remove its control plane, its webhooks and its CRDs with all objects; return when the last is gone."""
        bound("istioctl", "--context", self.context)("uninstall", "--purge", "--skip-confirmation")
        eventually(self._crds, lambda found: found == [], 60, "no CRD of Istio")

    @property
    def is_known(self) -> bool:
        """Whether the operator believes that it is there."""
        lines = log_lines(self.kubectl)
        changes = [line["now"] for line in lines if line["message"] == "The cluster's capabilities changed"]
        return bool(changes) and "istio=None" not in changes[-1]

    @property
    def is_served(self) -> bool:
        """Whether the API server serves what the operator writes."""
        try:
            found = [self.kubectl("get", "--raw", f"/apis/{api}") for api in APIS]
        except CommandError:
            return False
        return len(found) == len(APIS)

    def _crds(self) -> list[str]:
        found = self.kubectl("get", "crds", "-o", "name").split()
        return [name for name in found if name.endswith(".istio.io")]

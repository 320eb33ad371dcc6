"""An idle service is not written to."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.e2e.cluster import Command, eventually
from tests.e2e.services import Get, Service, children, written

OPERATOR = ("-n", "polyglot-system", "deployment/polyglot-operator")


@pytest.mark.disruptive
def test_an_idle_service_is_not_written_to_and_an_operator_restart_changes_nothing(
    kubectl: Command, get: Get, meshed: Service
) -> None:
    def writes() -> dict[str, Any]:
        service = get("polyglotservice", meshed.name, "-n", meshed.namespace, "--show-managed-fields")
        return written([service, *children(get, meshed)])

    def unchanged_for(seconds: float) -> bool:
        before = writes()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if writes() != before:
                return False
            time.sleep(1)
        return True

    meshed.wait_ready()
    eventually(lambda: unchanged_for(15), bool, 120, "15 s without any write")
    before = writes()
    kubectl("rollout", "restart", *OPERATOR)
    kubectl("rollout", "status", *OPERATOR, "--timeout=120s")
    assert unchanged_for(10)
    assert writes() == before

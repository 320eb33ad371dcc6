"""A node that dies comes back by `make cluster`, as the same cluster."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from polyglot_platform.cluster import ClusterName
from polyglot_platform.readiness import unready
from tests.e2e.cluster import REAL, Command, eventually

ROOT = Path(__file__).resolve().parents[3]


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.disruptive
def test_a_killed_node_is_started_again_with_everything_that_ran_on_it(
    get: Callable[..., dict[str, Any]], kubectl: Command
) -> None:
    (before,) = get("nodes", "-l", REAL)["items"]
    docker("kill", ClusterName.MAIN.container)
    repair = [sys.executable, "-m", "polyglot_platform", "cluster"]
    done = subprocess.run(repair, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "node container was exited: started again" in done.stdout
    (after,) = get("nodes", "-l", REAL)["items"]
    assert after["metadata"]["uid"] == before["metadata"]["uid"]

    on_it = f"--field-selector=spec.nodeName={after['metadata']['name']}"
    started = datetime.fromisoformat(docker("inspect", "--format", "{{.State.StartedAt}}", ClusterName.MAIN.container))
    eventually(
        lambda: unready(json.loads(kubectl("get", "pods", "--all-namespaces", on_it, "-o", "json"))["items"], started),
        lambda waiting: waiting == [],
        180,
        "every pod that ran before is Ready again",
    )

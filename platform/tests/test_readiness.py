"""A pod's state from before a restart is no state."""

from datetime import UTC, datetime
from typing import Any

import pytest

from polyglot_platform.readiness import unready

NODE_START = datetime(2026, 3, 1, 12, 0, 0, 700_000, tzinfo=UTC)


def pod(ready: str = "True", started: str | None = "2026-03-01T12:00:05Z", **metadata: str) -> dict[str, Any]:
    state = {"running": {"startedAt": started}} if started else {"waiting": {"reason": "CrashLoopBackOff"}}
    return {
        "metadata": {"namespace": "observability", "name": "jaeger", **metadata},
        "status": {"conditions": [{"type": "Ready", "status": ready}], "containerStatuses": [{"state": state}]},
    }


@pytest.mark.parametrize(
    ("seen", "waiting"),
    [
        (pod(), []),
        (pod(started="2026-03-01T12:00:00Z"), []),
        (pod(started="2026-03-01T11:59:59Z"), ["observability/jaeger"]),
        (pod(ready="False"), ["observability/jaeger"]),
        (pod(started=None), ["observability/jaeger"]),
        (pod(ready="False", deletionTimestamp="2026-03-01T12:00:00Z"), []),
        ({"metadata": {"namespace": "a", "name": "new"}, "status": {}}, ["a/new"]),
        ({"metadata": {"namespace": "a", "name": "job"}, "status": {"phase": "Succeeded"}}, []),
    ],
    ids=["fresh", "same second", "from before", "not ready", "crashing", "going", "just created", "done"],
)
def test_a_pod_counts_when_it_is_ready_since_the_node_started(seen: dict[str, Any], waiting: list[str]) -> None:
    assert unready([seen], NODE_START) == waiting

"""Whether pods really run on the node as it is now."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any


def unready(pods: Sequence[Mapping[str, Any]], node_start: datetime) -> list[str]:
    """Names of pods, neither going nor done, that are not Ready, or whose Ready dates from before the node's (re)start.

    After a node was killed the API server tells the pods' state of before until the kubelet has looked again.
    """
    waiting = []
    for pod in pods:
        done = "deletionTimestamp" in pod["metadata"] or pod["status"].get("phase") in {"Succeeded", "Failed"}
        if not done and not _ready_since(pod, node_start):
            waiting.append(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}")
    return waiting


def _ready_since(pod: Mapping[str, Any], node_start: datetime) -> bool:
    conditions = {condition["type"]: condition["status"] for condition in pod["status"].get("conditions", [])}
    started = [
        container["state"].get("running", {}).get("startedAt")
        for container in pod["status"].get("containerStatuses", [])
    ]
    whole_second = node_start.replace(microsecond=0)  # the API server's times have no fractions
    fresh = all(start and datetime.fromisoformat(start) >= whole_second for start in started)
    return conditions.get("Ready") == "True" and bool(started) and fresh

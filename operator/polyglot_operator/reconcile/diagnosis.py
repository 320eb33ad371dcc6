"""Why pods are not ready: the kubelet's, the scheduler's and the server's own words as one reason. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from polyglot_operator.api.conditions import Reason
from polyglot_operator.api.names import Component

Pod = Mapping[str, Any]
MAX_MESSAGE: Final = 500

_PULL: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
)
_CONFIG: Final = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
# What differs between two attempts to pull an image that fail alike: whether the kubelet waits just now, and the port
# that it happened to ask from.
_ATTEMPT: Final = re.compile(r'^Back-off pulling image "[^"]*": \w+: |\S+:\d+->')
_MODEL_FAILED: Final = "Cannot serve: "  # how the inference server begins its last line when a model does not load


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The first thing to repair, as a reason of `Available` and a message for people."""

    reason: Reason
    message: str


def diagnose(pods: Iterable[Pod], deployment_conditions: Iterable[Mapping[str, Any]] = ()) -> Diagnosis:
    """Explain why a component has too few ready pods.

    What has failed outranks what only waits; among equals the pod whose name comes first decides, so that the
    message is stable. Without any failure the pods are `Starting`.
    """
    for condition in deployment_conditions:
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return Diagnosis(Reason.POD_CREATION_REFUSED, _short(condition.get("message", "")))
    found = [verdict for pod in sorted(pods, key=_name) for look in _LOOKS if (verdict := look(pod))]
    return min(found, key=lambda verdict: _RANK.index(verdict.reason), default=_starting())


def scheduling_problem(pod: Pod) -> str | None:
    """Return the scheduler's message about a pod that it finds no node for, or None."""
    for condition in pod["status"].get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("message", ""))
    return None


def _starting() -> Diagnosis:
    return Diagnosis(Reason.STARTING, "pods are starting")


def _unschedulable(pod: Pod) -> Diagnosis | None:
    problem = scheduling_problem(pod)
    if problem is None:
        return None
    unbound = f" with {', '.join(_claims(pod))}" if "unbound" in problem else ""  # which the scheduler does not name
    return Diagnosis(Reason.UNSCHEDULABLE, _short(f"pod {_name(pod)}{unbound}: {problem}"))


def _claims(pod: Pod) -> list[str]:
    found = [volume.get("persistentVolumeClaim", {}).get("claimName") for volume in pod["spec"].get("volumes", ())]
    return [f"PersistentVolumeClaim {name}" for name in dict.fromkeys(found) if name]


def _waiting(pod: Pod) -> Diagnosis | None:
    for container in _containers(pod):
        waiting = container.get("state", {}).get("waiting", {})
        where, words = f"pod {_name(pod)}, {container['name']}", waiting.get("message", waiting.get("reason", ""))
        if waiting.get("reason") in _PULL:
            return Diagnosis(Reason.IMAGE_PULL_FAILED, _short(f"{where}: {_ATTEMPT.sub('', words)}"))
        if waiting.get("reason") in _CONFIG:
            return Diagnosis(Reason.CONTAINER_CONFIG_INVALID, _short(f"{where}: {words}"))
    return None


def _ended(pod: Pod) -> Diagnosis | None:
    """Explain a container that has ended, unless it runs and serves again."""
    for container in _containers(pod):
        ended = _last_end(container)
        if ended is None or container.get("ready") or ended.get("exitCode") == 0:
            continue
        words = _last_words(ended.get("message", ""))
        where = f"pod {_name(pod)}, {container['name']}"
        if container["name"] == Component.INFERENCE and words.startswith(_MODEL_FAILED):
            return Diagnosis(Reason.MODEL_FAILED, _short(f"{where}: {words.removeprefix(_MODEL_FAILED)}"))
        status = f"{ended.get('reason', 'Error')}, exit status {ended.get('exitCode')}"
        return Diagnosis(Reason.CRASH_LOOPING, _short(f"{where}: {words or 'no last words'} ({status})"))
    return None


def _last_end(container: Mapping[str, Any]) -> Mapping[str, Any] | None:
    ended: Mapping[str, Any] | None = container.get("state", {}).get("terminated") or container.get(
        "lastState", {}
    ).get("terminated")
    return ended


def _containers(pod: Pod) -> Iterable[Mapping[str, Any]]:
    status = pod["status"]
    return (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))


def _last_words(log: str) -> str:
    """Return the text of a log's last line; ours are JSON objects with a `message`, or with slog's `msg`."""
    line = next((line for line in reversed(log.splitlines()) if line.strip()), "")
    try:
        record = json.loads(line)
    except ValueError:
        return line.strip()
    if not isinstance(record, dict):
        return line.strip()
    return str(record.get("message") or record.get("msg") or line)


def _name(pod: Pod) -> str:
    return str(pod["metadata"]["name"])


def _short(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 1]}…"


_LOOKS: Final[tuple[Callable[[Pod], Diagnosis | None], ...]] = (_waiting, _ended, _unschedulable)
_RANK: Final = (
    Reason.MODEL_FAILED,
    Reason.IMAGE_PULL_FAILED,
    Reason.CONTAINER_CONFIG_INVALID,
    Reason.CRASH_LOOPING,
    Reason.UNSCHEDULABLE,
)

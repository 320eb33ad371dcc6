"""What a status says, for what was observed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyglot_operator.api.conditions import REASONS, ConditionType, Reason
from polyglot_operator.api.model import parse
from polyglot_operator.api.names import Component
from polyglot_operator.build.facts import Capabilities, MeshPhase
from polyglot_operator.reconcile import status
from polyglot_operator.reconcile.accelerators import Free
from polyglot_operator.reconcile.diagnosis import Diagnosis
from polyglot_operator.reconcile.status import Change, MeshView, Observed, Verdict
from polyglot_operator.reconcile.workloads import Workload

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
LATER = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)
T, R = ConditionType, Reason

GOOD = Verdict("True", R.ACCEPTED, "")
RECONCILED = Verdict("True", R.RECONCILED, "")


def spec(**fields: Any) -> Any:
    models = [{"name": "m", "format": "ONNX", "source": {"configMap": {"name": "c"}}}]
    body = {"metadata": {"name": "s", "namespace": "ns"}, "spec": {"models": models, **fields}}
    return parse(body).spec


INFERENCE = Workload(Component.INFERENCE, exists=True, replicas=1, ready=1, updated=1, current=1)
GATEWAY = replace(INFERENCE, component=Component.GATEWAY)
PLAIN = MeshView("None", MeshPhase.NONE, wanted=False, served=False)
STRICT = MeshView("Istio", MeshPhase.STRICT, wanted=True, served=True)
HEALTHY = Observed(
    generation=3,
    url="http://s",
    accepted=GOOD,
    reconciled=RECONCILED,
    capabilities=Capabilities(),
    spec=spec(),
    mesh=PLAIN,
    workloads=(INFERENCE, GATEWAY),
)
GPU = spec(inference={"accelerator": {"resourceName": "nvidia.com/gpu", "count": 2}})
TRACED = spec(telemetry={"tracing": {"endpoint": "http://jaeger:4317"}})
NO_GPU = replace(INFERENCE, ready=0, current=0, unschedulable=("0/1 nodes: 1 Insufficient nvidia.com/gpu.",))


def with_workload(**changed: Any) -> Observed:
    return replace(HEALTHY, workloads=(replace(INFERENCE, **changed), GATEWAY))


@pytest.mark.parametrize(
    ("observed", "kind", "expected"),
    [
        (HEALTHY, T.READY, ("True", R.READY)),
        # Available: max(1, floor - maxUnavailable) of any revision
        (with_workload(ready=0), T.AVAILABLE, ("False", R.STARTING)),
        (with_workload(floor=3, ready=2), T.AVAILABLE, ("True", R.AVAILABLE)),
        (with_workload(floor=3, ready=1), T.AVAILABLE, ("False", R.STARTING)),
        (with_workload(floor=3, ready=1, max_unavailable=2), T.AVAILABLE, ("True", R.AVAILABLE)),
        (with_workload(floor=1, ready=0, max_unavailable=5), T.AVAILABLE, ("False", R.STARTING)),
        (with_workload(ready=0, diagnosis=Diagnosis(R.MODEL_FAILED, "x")), T.AVAILABLE, ("False", R.MODEL_FAILED)),
        # Ready: floor of the current revision
        (with_workload(floor=3, ready=3, current=2), T.READY, ("False", R.ROLLING_OUT)),
        (with_workload(current=0, diagnosis=Diagnosis(R.STARTING, "x")), T.READY, ("False", R.ROLLING_OUT)),
        (with_workload(current=0, diagnosis=Diagnosis(R.MODEL_FAILED, "x")), T.READY, ("False", R.MODEL_FAILED)),
        (with_workload(current=0, diagnosis=Diagnosis(R.MODEL_FAILED, "x")), T.AVAILABLE, ("True", R.AVAILABLE)),
        (with_workload(floor=1, replicas=5, ready=1, current=1), T.READY, ("True", R.READY)),
        (with_workload(ready=0), T.READY, ("False", R.STARTING)),
        (replace(HEALTHY, accepted=Verdict("False", R.SOURCE_MISSING, "")), T.READY, ("False", R.SOURCE_MISSING)),
        (replace(HEALTHY, reconciled=Verdict("False", R.NAME_CONFLICT, "")), T.READY, ("False", R.NAME_CONFLICT)),
        # AcceleratorsAvailable
        (HEALTHY, T.ACCELERATORS_AVAILABLE, ("True", R.NOT_REQUESTED)),
        (replace(HEALTHY, spec=GPU), T.ACCELERATORS_AVAILABLE, ("True", R.ALLOCATED)),
        (
            replace(HEALTHY, spec=GPU, workloads=(NO_GPU, GATEWAY), free=Free(2, 1, 1, short=1)),
            T.ACCELERATORS_AVAILABLE,
            ("False", R.INSUFFICIENT_ACCELERATORS),
        ),
        (
            replace(HEALTHY, spec=GPU, workloads=(NO_GPU, GATEWAY), free=None),
            T.ACCELERATORS_AVAILABLE,
            ("False", R.INSUFFICIENT_ACCELERATORS),
        ),
        (
            replace(HEALTHY, spec=GPU, workloads=(NO_GPU, GATEWAY), free=Free(4, 4, 4, short=0)),
            T.ACCELERATORS_AVAILABLE,
            ("True", R.ALLOCATED),
        ),
        # MeshReady
        (HEALTHY, T.MESH_READY, ("True", R.MESH_DISABLED)),
        (replace(HEALTHY, mesh=replace(PLAIN, mode="Auto")), T.MESH_READY, ("True", R.ISTIO_ABSENT)),
        (replace(HEALTHY, mesh=replace(PLAIN, mode="Auto", served=True)), T.MESH_READY, ("True", R.ISTIO_APPEARED)),
        (replace(HEALTHY, mesh=STRICT), T.MESH_READY, ("True", R.SIDECARS_READY)),
        (replace(HEALTHY, mesh=replace(STRICT, served=False)), T.MESH_READY, ("False", R.ISTIO_VANISHED)),
        (replace(HEALTHY, mesh=replace(STRICT, phase=MeshPhase.MUTUAL)), T.MESH_READY, ("False", R.SWITCHING)),
        (replace(HEALTHY, mesh=replace(STRICT, wanted=False)), T.MESH_READY, ("False", R.SWITCHING)),
        (replace(HEALTHY, mesh=replace(STRICT, spreading=True)), T.MESH_READY, ("False", R.SWITCHING)),
        (
            replace(HEALTHY, mesh=STRICT, workloads=(replace(INFERENCE, without_sidecar=("p",)), GATEWAY)),
            T.MESH_READY,
            ("False", R.SIDECARS_MISSING),
        ),
        (
            replace(HEALTHY, mesh=STRICT, spec=TRACED, capabilities=Capabilities(("security.istio.io/v1",), False)),
            T.MESH_READY,
            ("True", R.TRACING_PROVIDER_MISSING),
        ),
        (
            replace(HEALTHY, mesh=replace(STRICT, served=False), workloads=(Workload(Component.INFERENCE),)),
            T.MESH_READY,
            ("False", R.ISTIO_REQUIRED),
        ),
        (
            replace(HEALTHY, mesh=replace(STRICT, phase=MeshPhase.NONE, served=False)),
            T.MESH_READY,
            ("False", R.ISTIO_REQUIRED),
        ),
        (replace(HEALTHY, spec=None, mesh=None, workloads=()), T.MESH_READY, ("Unknown", R.NOT_ACCEPTED)),
    ],
)
def test_a_condition_follows_from_what_was_observed(
    observed: Observed, kind: ConditionType, expected: tuple[str, Reason]
) -> None:
    verdict = status.judge(observed)[kind]
    assert (verdict.truth, verdict.reason) == expected


DOCUMENTED = {(row.type, row.status, row.reason) for row in REASONS}


@given(
    exists=st.booleans(),
    counts=st.tuples(*[st.integers(0, 4)] * 3),
    floor=st.integers(1, 4),
    phase=st.sampled_from(MeshPhase),
    mode=st.sampled_from(["Auto", "Istio", "None"]),
    wanted=st.booleans(),
    served=st.booleans(),
    declared=st.sampled_from([spec(), GPU, TRACED]),
    reason=st.sampled_from([None, R.STARTING, R.MODEL_FAILED, R.UNSCHEDULABLE, R.POD_CREATION_REFUSED]),
)
def test_every_outcome_is_a_documented_one(  # noqa: PLR0917
    exists: bool,
    counts: tuple[int, int, int],
    floor: int,
    phase: MeshPhase,
    mode: str,
    wanted: bool,
    served: bool,
    declared: Any,
    reason: Reason | None,
) -> None:
    replicas, ready, current = counts
    workload = Workload(
        Component.INFERENCE,
        exists=exists,
        replicas=replicas,
        ready=ready,
        current=current,
        floor=floor,
        diagnosis=Diagnosis(reason, "x") if reason else None,
    )
    observed = replace(HEALTHY, spec=declared, mesh=MeshView(mode, phase, wanted, served), workloads=(workload,))
    for kind, verdict in status.judge(observed).items():
        owners = ConditionType if kind is T.READY else (kind,)
        assert any((owner, verdict.truth, verdict.reason) in DOCUMENTED for owner in owners), (kind, verdict)


def test_the_outcome_of_an_unreadable_spec_is_documented() -> None:
    unreadable = replace(HEALTHY, spec=None, mesh=None, workloads=(), accepted=Verdict("False", R.INVALID_SPEC, "x"))
    judged = status.judge(unreadable)
    assert (T.MESH_READY, judged[T.MESH_READY].truth, judged[T.MESH_READY].reason) in DOCUMENTED
    assert judged[T.READY].reason is R.INVALID_SPEC


def condition(made: dict[str, Any], kind: ConditionType) -> dict[str, Any]:
    return next(c for c in made["conditions"] if c["type"] == kind)


def test_a_condition_keeps_its_time_until_its_status_flips() -> None:
    first = status.make(HEALTHY, {}, NOW)
    same = status.make(replace(HEALTHY, generation=4), first, LATER)
    assert condition(same, T.READY)["lastTransitionTime"] == "2026-11-21T09:00:00Z"
    assert condition(same, T.READY)["observedGeneration"] == 4
    flipped = status.make(with_workload(ready=0), first, LATER)
    assert condition(flipped, T.READY)["lastTransitionTime"] == "2026-11-21T10:00:00Z"
    assert condition(flipped, T.ACCEPTED)["lastTransitionTime"] == "2026-11-21T09:00:00Z"


def test_the_same_observation_gives_the_same_status() -> None:
    first = status.make(HEALTHY, {}, NOW)
    assert status.make(HEALTHY, first, LATER) == first
    assert status.change(first, status.make(HEALTHY, first, LATER)) is Change.NONE


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        (with_workload(replicas=2), Change.DETAILS),
        (with_workload(ready=0), Change.CONDITIONS),
        (replace(HEALTHY, generation=4), Change.CONDITIONS),
    ],
)
def test_counts_may_wait_and_conditions_may_not(observed: Observed, expected: Change) -> None:
    first = status.make(HEALTHY, {}, NOW)
    assert status.change(first, status.make(observed, first, LATER)) is expected


def apply_merge_patch(target: Any, patch: Any) -> Any:
    """Apply RFC 7386 as the API server does."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = apply_merge_patch(merged.get(key), value)
    return merged


json_objects = st.recursive(
    st.dictionaries(st.sampled_from("abc"), st.integers() | st.lists(st.integers(), max_size=2)),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner | st.integers()),
    max_leaves=8,
)


@given(old=json_objects, new=json_objects)
def test_a_merge_patch_turns_the_old_status_into_the_new(old: dict[str, Any], new: dict[str, Any]) -> None:
    patch = status.merge_patch(old, new)
    assert apply_merge_patch(old, patch) == new
    assert status.merge_patch(new, new) == {}


def test_a_new_service_that_is_starting_makes_no_event() -> None:
    made = status.make(with_workload(ready=0, exists=False), {}, NOW)
    assert status.transitions({}, made) == []


def test_becoming_ready_and_losing_it_are_one_event_each() -> None:
    starting = status.make(with_workload(ready=0), {}, NOW)
    ready = status.make(HEALTHY, starting, NOW)
    assert {t.kind for t in status.transitions(starting, ready)} == {T.AVAILABLE, T.READY}
    assert not any(t.bad for t in status.transitions(starting, ready))
    failed = status.make(with_workload(ready=0, diagnosis=Diagnosis(R.CRASH_LOOPING, "x")), ready, NOW)
    assert {(t.kind, t.reason, t.bad) for t in status.transitions(ready, failed)} == {
        (T.AVAILABLE, "CrashLooping", True),
        (T.READY, "CrashLooping", True),
    }


def test_a_rollout_that_fails_while_old_pods_serve_is_one_warning() -> None:
    stages = [
        HEALTHY,
        with_workload(current=0),
        with_workload(current=0, diagnosis=Diagnosis(R.MODEL_FAILED, "x")),
        with_workload(current=0, diagnosis=Diagnosis(R.MODEL_FAILED, "in other words")),
        with_workload(current=0, diagnosis=Diagnosis(R.STARTING, "x")),
        HEALTHY,
    ]
    made = [status.make(stage, {}, NOW) for stage in stages]
    told = [t for old, new in pairwise(made) for t in status.transitions(old, new)]
    assert [(t.kind, t.reason, t.bad) for t in told] == [
        (T.READY, "RollingOut", False),
        (T.READY, "ModelFailed", True),
        (T.READY, "Ready", False),
    ]


def test_a_status_that_says_the_same_in_other_words_makes_no_event() -> None:
    ready = status.make(HEALTHY, {}, NOW)
    busier = status.make(with_workload(replicas=4, ready=4, current=4), ready, LATER)
    assert ready != busier
    assert status.transitions(ready, busier) == []


def test_asked_and_free_accelerators_are_named() -> None:
    short = replace(HEALTHY, spec=GPU, workloads=(NO_GPU, GATEWAY))
    seen = status.judge(replace(short, free=Free(3, 1, 1, short=1)))[T.ACCELERATORS_AVAILABLE].message
    assert seen == "1 pod(s) wait for 2 nvidia.com/gpu each; 1 of 3 are free, at most 1 on one node"
    chosen = spec(inference={"accelerator": {"products": ["NVIDIA-L4", "NVIDIA-H100"]}})
    seen = status.judge(replace(short, spec=chosen, free=Free(0, 0, 0, short=2)))[T.ACCELERATORS_AVAILABLE].message
    assert seen.startswith("2 pod(s) wait for 1 nvidia.com/gpu (NVIDIA-H100 or NVIDIA-L4) each; 0 of 0 are free")
    assert "unknown" in status.judge(replace(short, free=None))[T.ACCELERATORS_AVAILABLE].message

"""The way into and out of the mesh, step by step."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from polyglot_operator.build.facts import MeshPhase
from polyglot_operator.cluster.inventory import Inventory, Key
from polyglot_operator.reconcile.mesh import Sidecars, has_sidecar, next_phase, pinned_mode, wanted

P = MeshPhase
NO_PODS, NONE, MIXED, ALL = Sidecars(0, 0), Sidecars(0, 2), Sidecars(1, 2), Sidecars(2, 2)


@pytest.mark.parametrize(
    ("mode", "pinned", "served", "expected"),
    [
        ("Istio", None, True, True),
        ("Istio", "None", True, True),
        ("None", "Istio", True, False),
        ("Auto", None, True, True),
        ("Auto", None, False, False),
        ("Auto", "None", True, False),
        ("Auto", "Istio", False, True),
    ],
)
def test_auto_follows_the_cluster_once_and_its_pin_ever_after(
    mode: str, pinned: str | None, served: bool, expected: bool
) -> None:
    assert wanted(mode, pinned, served) is expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("Istio", "Istio", "Istio"),
        ("None", "None", "None"),
        ("Istio", "None", "Istio"),
        ("None", "Istio", "Istio"),
        (None, "Istio", "Istio"),
        (None, "None", "None"),
        (None, None, None),
    ],
)
def test_one_edited_pin_does_not_lead_out_of_the_mesh(
    gateway: dict[str, dict[str, Any]], one: str | None, other: str | None, expected: str | None
) -> None:
    inventory = Inventory()
    for component, pin in (("inference", one), ("gateway", other)):
        deployment = copy.deepcopy(gateway["Deployment"])
        deployment["metadata"]["name"] = f"s-{component}"
        deployment["metadata"]["annotations"] = {} if pin is None else {"polyglot.dev/mesh": pin}
        inventory.put(deployment)
    live = inventory.children(Key(gateway["Deployment"]["metadata"]["namespace"], "s"))
    assert len(live) == 2
    assert pinned_mode(live) == expected


@pytest.mark.parametrize(
    ("current", "want", "sidecars", "settled", "expected"),
    [
        # a new service has nothing to lose
        (None, True, NO_PODS, False, P.STRICT),
        (None, False, NO_PODS, False, P.NONE),
        # into the mesh: every pod, then mutual TLS, then strictness
        (P.NONE, True, NONE, False, P.PERMISSIVE),
        (P.PERMISSIVE, True, MIXED, True, P.PERMISSIVE),
        (P.PERMISSIVE, True, ALL, False, P.PERMISSIVE),
        (P.PERMISSIVE, True, ALL, True, P.MUTUAL),
        (P.MUTUAL, True, ALL, False, P.MUTUAL),
        (P.MUTUAL, True, ALL, True, P.STRICT),
        # once strict, a pod without a sidecar is a fault to report and no reason to weaken
        (P.STRICT, True, MIXED, True, P.STRICT),
        # out of the mesh, in reverse
        (P.STRICT, False, ALL, False, P.MUTUAL),
        (P.MUTUAL, False, ALL, False, P.MUTUAL),
        (P.MUTUAL, False, ALL, True, P.PERMISSIVE),
        (P.PERMISSIVE, False, ALL, False, P.PERMISSIVE),
        (P.PERMISSIVE, False, ALL, True, P.LEAVING),
        (P.LEAVING, False, MIXED, True, P.LEAVING),
        (P.LEAVING, False, NONE, True, P.NONE),
        (P.NONE, False, NONE, True, P.NONE),
        # a change of mind on the way
        (P.LEAVING, True, MIXED, True, P.PERMISSIVE),
        (P.PERMISSIVE, False, MIXED, True, P.LEAVING),
    ],
)
def test_each_step_waits_for_what_makes_it_safe(
    current: MeshPhase | None, want: bool, sidecars: Sidecars, settled: bool, expected: MeshPhase
) -> None:
    assert next_phase(current, want, sidecars, settled=settled, accepted=True) is expected


@pytest.mark.parametrize("want", [True, False])
@pytest.mark.parametrize("start", list(MeshPhase))
def test_a_switch_arrives_from_every_phase_and_stays(start: MeshPhase, want: bool) -> None:
    phase = start
    for _ in range(6):
        phase = next_phase(phase, want, ALL if phase.sidecars else NONE, settled=True, accepted=True)
    assert phase is (P.STRICT if want else P.NONE)


@pytest.mark.parametrize("want", [True, False])
@pytest.mark.parametrize("start", list(MeshPhase))
def test_a_spec_that_is_refused_holds_a_service_where_it_is(start: MeshPhase, want: bool) -> None:
    sidecars = ALL if start.sidecars else NONE
    assert next_phase(start, want, sidecars, settled=True, accepted=False) is start


@pytest.mark.parametrize("want", [True, False])
@pytest.mark.parametrize("start", list(MeshPhase))
def test_strict_and_mutual_tls_are_never_next_to_plain(start: MeshPhase, want: bool) -> None:
    order = [P.NONE, P.PERMISSIVE, P.MUTUAL, P.STRICT]
    then = next_phase(start, want, ALL if start.sidecars else NONE, settled=True, accepted=True)
    if start in order and then in order:
        assert abs(order.index(start) - order.index(then)) <= 1


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"containers": [{"name": "inference"}]}, False),
        ({"containers": [{"name": "inference"}, {"name": "istio-proxy"}]}, True),
        ({"containers": [{"name": "inference"}], "initContainers": [{"name": "istio-proxy"}]}, True),
        ({"containers": [{"name": "inference"}], "initContainers": [{"name": "istio-init"}]}, False),
    ],
)
def test_a_sidecar_is_found_as_container_and_as_native_sidecar(spec: dict[str, object], expected: bool) -> None:
    assert has_sidecar({"spec": spec}) is expected

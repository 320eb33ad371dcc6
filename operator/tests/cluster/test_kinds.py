"""The static table of kinds beside what the builders make."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from polyglot_operator.cluster.kinds import CHILDREN, CONFIG_MAP, DEPLOYMENT, SERVICE, Kind, Ref

GOLDEN = Path(__file__).parents[1] / "golden"
BUILT = [list(yaml.safe_load_all(file.read_text())) for file in sorted(GOLDEN.glob("*/children.yaml"))]


def test_every_kind_that_is_built_is_known_and_every_known_kind_is_built() -> None:
    built = {(obj["apiVersion"], obj["kind"]) for children in BUILT for obj in children}
    assert built == {(kind.api_version, kind.name) for kind in CHILDREN}


@pytest.mark.parametrize("children", BUILT)
def test_pods_are_started_after_everything_that_they_need(children: list[dict[str, object]]) -> None:
    kinds = [Ref.of(obj).kind for obj in children]
    first_pods = kinds.index(DEPLOYMENT)
    later = {"Deployment", "PodDisruptionBudget", "HorizontalPodAutoscaler"}
    assert not {kind.name for kind in kinds[:first_pods]} & later
    assert {kind.name for kind in kinds[first_pods:]} <= later


@pytest.mark.parametrize(
    ("kind", "namespace", "path"),
    [
        (CONFIG_MAP, "ns", "/api/v1/namespaces/ns/configmaps"),
        (CONFIG_MAP, None, "/api/v1/configmaps"),
        (DEPLOYMENT, "ns", "/apis/apps/v1/namespaces/ns/deployments"),
        (SERVICE, None, "/apis/polyglot.dev/v1alpha1/polyglotservices"),
    ],
)
def test_a_collection_is_found_where_the_api_server_keeps_it(kind: Kind, namespace: str | None, path: str) -> None:
    assert kind.collection(namespace) == path


def test_an_object_of_an_unknown_kind_is_a_programming_error() -> None:
    with pytest.raises(KeyError):
        Ref.of({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "namespace": "ns"}})

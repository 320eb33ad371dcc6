"""The wiring: what Kopf is told to watch, and what it is kept from doing."""

from __future__ import annotations

import pytest
from kubernetes.aio.client import Configuration

from polyglot_operator import handlers
from polyglot_operator.cluster.inventory import Inventory
from polyglot_operator.cluster.kinds import SERVICE, WATCHED
from polyglot_operator.cluster.watches import Watches
from polyglot_operator.reconcile.queue import WorkQueue


def test_every_child_kind_is_filtered_at_the_server_and_services_are_not() -> None:
    selectors = handlers.settings(namespaced=False).watching.label_selectors
    filtered = {(selector.group, selector.version, selector.any_name) for selector in selectors}
    assert filtered == {(kind.group, kind.version, kind.plural) for kind in WATCHED}
    assert set(selectors.values()) == {"app.kubernetes.io/managed-by=polyglot-operator"}


def test_only_handlers_that_write_nothing_are_registered() -> None:
    registry = handlers.registry(Configuration(), Watches(), Inventory(), WorkQueue(lambda: 0.0))
    kinds = {kind.plural for kind in (SERVICE, *WATCHED)}
    for writing in (registry._changing, registry._spawning, registry._webhooks):
        assert not list(writing.get_all_handlers())
    for silent in (registry._indexing, registry._watching):
        assert {h.selector.plural for h in silent.get_all_handlers() if h.selector} == kinds


@pytest.mark.parametrize("namespaced", [True, False])
def test_crds_and_namespaces_are_looked_for_in_cluster_mode_only(namespaced: bool) -> None:
    assert handlers.settings(namespaced).scanning.disabled is namespaced


def test_kopf_posts_no_events_and_does_not_cap_its_throughput() -> None:
    settings = handlers.settings(namespaced=False)
    assert settings.posting.enabled is False
    assert settings.queueing.worker_limit is None
    assert settings.peering.standalone is True


def test_nothing_of_a_service_is_kept_for_differences() -> None:
    storage = handlers.NoDiffBase()
    assert storage.build(body={"spec": {"a": 1}}) == {}
    assert storage.fetch(body={}) is None

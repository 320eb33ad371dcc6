"""The door to the API server: what it promises its callers, against a real one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from polyglot_operator.api import names
from polyglot_operator.cluster import audit, capabilities, connection, ownership
from polyglot_operator.cluster.client import Client
from polyglot_operator.cluster.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from polyglot_operator.cluster.inventory import Inventory, Key
from polyglot_operator.cluster.kinds import CONFIG_MAP, PEER_AUTHENTICATION, Kind, Ref

Object = dict[str, Any]


@pytest.fixture
async def client(context: str) -> AsyncIterator[Client]:
    client = Client(connection.api_client(await connection.load(context)))
    yield client
    await client.close()


def config_map(namespace: str, **data: str) -> Object:
    metadata = {"name": "x-gateway", "namespace": namespace, "labels": names.labels("x", names.Component.GATEWAY)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def authentication(namespace: str) -> Object:
    spec = {"selector": {"matchLabels": {"app": "x"}}, "mtls": {"mode": "STRICT"}}
    metadata = {"name": "x", "namespace": namespace}
    return {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": metadata, "spec": spec}


async def test_an_apply_creates_changes_and_then_changes_nothing(client: Client, namespace: str) -> None:
    first = await client.apply(config_map(namespace, a="1", b="2"))
    second = await client.apply(config_map(namespace, a="2"), first["metadata"]["uid"])
    assert second["data"] == {"a": "2"}
    third = await client.apply(config_map(namespace, a="2"), first["metadata"]["uid"])
    assert third["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]
    assert ownership.owned_digest(third) == ownership.digest(config_map(namespace, a="2"))


async def test_an_apply_to_an_object_that_was_replaced_or_is_gone_is_a_conflict(client: Client, namespace: str) -> None:
    with pytest.raises(ConflictError):
        await client.apply(config_map(namespace, a="1"), "00000000-0000-0000-0000-000000000000")
    await client.apply(config_map(namespace, a="1"))
    with pytest.raises(ConflictError):
        await client.apply(config_map(namespace, a="2"), "00000000-0000-0000-0000-000000000000")
    assert (await client.get(Ref(CONFIG_MAP, namespace, "x-gateway")))["data"] == {"a": "1"}


async def test_only_the_very_object_that_is_meant_is_deleted(client: Client, namespace: str) -> None:
    ref = Ref(CONFIG_MAP, namespace, "x-gateway")
    uid = (await client.apply(config_map(namespace)))["metadata"]["uid"]
    with pytest.raises(ConflictError):
        await client.delete(ref, "00000000-0000-0000-0000-000000000000")
    await client.delete(ref, uid)
    with pytest.raises(NotFoundError):
        await client.delete(ref, uid)
    with pytest.raises(NotFoundError):
        await client.get(ref)


async def test_a_replaced_spec_holds_nothing_of_others(client: Client, namespace: str) -> None:
    uid = (await client.apply(authentication(namespace)))["metadata"]["uid"]
    foreign = authentication(namespace)
    foreign["spec"]["portLevelMtls"] = {"8000": {"mode": "DISABLE"}}
    await client.apply(foreign, uid, manager="someone-else")
    kept = await client.apply(authentication(namespace), uid)
    assert "portLevelMtls" in kept["spec"]
    replaced = await client.replace_spec(authentication(namespace), uid)
    assert replaced["spec"] == authentication(namespace)["spec"]
    with pytest.raises(ConflictError):
        await client.replace_spec(authentication(namespace), "00000000-0000-0000-0000-000000000000")


async def test_what_breaks_a_rule_of_its_kind_is_invalid_and_says_which(client: Client, namespace: str) -> None:
    wrong = authentication(namespace)
    wrong["spec"]["mtls"]["mode"] = "SOMETIMES"
    with pytest.raises(InvalidError, match=r"spec\.mtls\.mode"):
        await client.apply(wrong)


async def test_a_refusal_by_policy_is_forbidden(client: Client) -> None:
    with pytest.raises((ForbiddenError, NotFoundError)):
        await client.apply(config_map("no-such-namespace-here"))


async def test_a_kind_that_is_not_served_is_not_found(client: Client, namespace: str) -> None:
    unserved = Kind("security.istio.io/v9", "PeerAuthentication", PEER_AUTHENTICATION.plural)
    with pytest.raises(NotFoundError):
        await client.get(Ref(unserved, namespace, "x"))


async def test_a_server_that_does_not_answer_is_unavailable(context: str) -> None:
    configuration = await connection.load(context)
    configuration.host = "https://127.0.0.1:9"
    client = Client(connection.api_client(configuration))
    with pytest.raises(UnavailableError, match="/version"):
        await client.raw("/version")
    await client.close()


async def test_every_request_is_observed_with_its_result(context: str, namespace: str) -> None:
    seen: list[tuple[str, str]] = []
    configuration = await connection.load(context)
    client = Client(connection.api_client(configuration), lambda method, code, _: seen.append((method, code)))
    await client.apply(config_map(namespace))
    with pytest.raises(NotFoundError):
        await client.get(Ref(CONFIG_MAP, namespace, "absent"))
    await client.close()
    assert seen == [("PATCH", "201"), ("GET", "404")]


async def test_the_cluster_can_do_what_its_addons_offer(client: Client) -> None:
    found = await capabilities.discover(client)
    assert capabilities.serves_istio(found)
    assert (found.tracing_provider, found.metrics_api, found.image_volumes) == (True, True, True)


async def test_an_object_that_vanished_unseen_is_found_and_a_living_one_is_kept(client: Client, namespace: str) -> None:
    inventory = Inventory()
    living = await client.apply(config_map(namespace, a="1"))
    vanished = config_map(namespace)
    vanished["metadata"] |= {"name": "y-gateway", "labels": names.labels("y", names.Component.GATEWAY)}
    vanished = await client.apply(vanished)
    for obj in (living, vanished):
        inventory.put(obj)
    await client.delete(Ref.of(vanished), vanished["metadata"]["uid"])
    assert await audit.drop_vanished(client, inventory, CONFIG_MAP, namespace) == {Key(namespace, "y")}
    assert inventory.children(Key(namespace, "x"))
    assert not inventory.children(Key(namespace, "y"))


async def test_an_object_newer_than_the_listing_is_kept(client: Client, namespace: str) -> None:
    inventory = Inventory()
    future = await client.apply(config_map(namespace))
    await client.delete(Ref.of(future), future["metadata"]["uid"])
    inventory.put(future | {"metadata": future["metadata"] | {"resourceVersion": str(10**12)}})
    assert await audit.drop_vanished(client, inventory, CONFIG_MAP, namespace) == set()

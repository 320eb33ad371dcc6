"""What the session of the watches makes of the API server's answers."""

from __future__ import annotations

import json

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client import Configuration

from polyglot_operator.cluster import connection
from polyglot_operator.cluster.watches import Watches

RULES = "/apis/networking.istio.io/v1/destinationrules"


@pytest.mark.parametrize(
    ("query", "lost"), [("?watch=true", True), ("?limit=500", True), ("", False)], ids=["watch", "list", "discovery"]
)
async def test_a_kind_that_is_gone_looks_like_a_lost_connection_and_is_an_answer_to_discovery(
    query: str, lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "UNSERVED", 0.0)
    async with TestServer(web.Application()) as server, connection.watch_session(Configuration(), Watches()) as session:
        url = server.make_url(f"{RULES}{query}")
        if lost:
            with pytest.raises(aiohttp.ClientConnectionError, match="not served"):
                await session.get(url)
        else:
            assert (await session.get(url)).status == 404


async def test_what_is_served_passes_through() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"items": []})

    application = web.Application()
    application.router.add_get(RULES, answer)
    async with TestServer(application) as server, connection.watch_session(Configuration(), Watches()) as session:
        response = await session.get(server.make_url(f"{RULES}?limit=500"))
        assert json.loads(await response.read()) == {"items": []}

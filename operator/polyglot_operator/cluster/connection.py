"""How the API server is reached: configuration, credentials, and sessions that carry both.

Inside a pod the ServiceAccount's token is read again every minute; outside, the kubeconfig decides.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from polyglot_operator.cluster.watches import Watches

if TYPE_CHECKING:
    from aiohttp.client_middlewares import ClientHandlerType

USER_AGENT = f"polyglot-operator/{version('polyglot-operator')}"
POOL_SIZE = 100
UNSERVED = 5.0  # seconds; by then Kopf has seen the CRD go and has dropped the watch


async def load(context: str | None = None) -> Configuration:
    """Return the connection's configuration: the ServiceAccount's inside a pod, else the kubeconfig's `context`.

    Raises `kubernetes.aio.config.ConfigException` when neither is there.
    """
    configuration = Configuration()
    in_cluster = "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ
    if in_cluster and context is None:
        config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
    else:
        file = os.environ.get("KUBECONFIG", str(Path.home() / ".kube" / "config"))
        await config.load_kube_config(file, context, configuration)  # type: ignore[no-untyped-call]
    configuration.connection_pool_maxsize = POOL_SIZE
    return configuration


def api_client(configuration: Configuration) -> ApiClient:
    """Return the client that the writes go through."""
    client = ApiClient(configuration)
    client.set_default_header("User-Agent", USER_AGENT)  # type: ignore[no-untyped-call]
    return client


def watch_session(
    configuration: Configuration, watches: Watches, clock: Callable[[], float] = time.monotonic
) -> aiohttp.ClientSession:
    """Return the session that the watches run on: it renews credentials and takes every watch's pulse."""

    async def authorize(request: aiohttp.ClientRequest, send: ClientHandlerType) -> aiohttp.ClientResponse:
        bearer = (await configuration.auth_settings()).get("BearerToken")
        if bearer and bearer["value"]:
            request.headers["Authorization"] = bearer["value"]
        return await send(request)

    async def observe(request: aiohttp.ClientRequest, send: ClientHandlerType) -> aiohttp.ClientResponse:
        if request.url.query.get("watch") != "true":
            watches.listed(request.url.path)
            return await send(request)
        watches.requested(request.url.path, clock())
        response = await send(request)
        if response.ok:
            watches.opened(request.url.path, response.content, clock())
        return response

    async def outlive(request: aiohttp.ClientRequest, send: ClientHandlerType) -> aiohttp.ClientResponse:
        """Make a list or watch of a kind that is no longer served look like a lost connection.

        A 404 that comes before Kopf knows that the CRD is gone would end all its watches for good:
        https://github.com/nolar/kopf/issues/1077. Discovery, which has no query, takes a 404 for an answer.
        """
        response = await send(request)
        if response.status == 404 and request.url.query:
            response.release()
            await asyncio.sleep(UNSERVED)
            raise aiohttp.ClientConnectionError(f"{request.url.path} is not served")
        return response

    tls = ApiClient(configuration).rest_client.ssl_context
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=tls),
        headers={"User-Agent": USER_AGENT},
        middlewares=(outlive, authorize, observe),
        trust_env=True,
    )

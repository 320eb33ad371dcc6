"""What this cluster can do: which Istio it serves, whether pods have metrics, whether images can be volumes."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any, Final

import yaml

from polyglot_operator.build.facts import Capabilities
from polyglot_operator.cluster.client import Client
from polyglot_operator.cluster.errors import ForbiddenError, NotFoundError
from polyglot_operator.cluster.kinds import CHILDREN, CONFIG_MAP, Ref

ISTIO_GROUPS: Final = frozenset(kind.group for kind in CHILDREN if kind.is_mesh)
ISTIO_APIS: Final = frozenset(kind.api_version for kind in CHILDREN if kind.is_mesh)
METRICS_GROUP: Final = "metrics.k8s.io"
MESH_CONFIG: Final = Ref(CONFIG_MAP, "istio-system", "istio")
TRACING_PROVIDER: Final = "otel"
IMAGE_VOLUMES_SINCE: Final = (1, 35)


async def discover(client: Client, namespaces: Collection[str] = ()) -> Capabilities:
    """Ask the API server what it serves; raises `ClusterError` when it does not answer.

    `namespaces` are those that may be read; all of them when empty. Istio's configuration is asked for only there.
    """
    served = _served_versions((await client.raw("/apis"))["groups"])
    version = await client.raw("/version")
    readable = not namespaces or MESH_CONFIG.namespace in namespaces
    istio = tuple(sorted(v for v in served if v.partition("/")[0] in ISTIO_GROUPS))
    return Capabilities(
        istio=istio or None,
        tracing_provider=await _has_tracing_provider(client) if istio and readable else None,
        metrics_api=any(v.startswith(f"{METRICS_GROUP}/") for v in served),
        image_volumes=(_number(version["major"]), _number(version["minor"])) >= IMAGE_VOLUMES_SINCE,
    )


def serves_istio(capabilities: Capabilities) -> bool:
    """Tell whether every API of Istio that the operator writes is served."""
    return set(capabilities.istio or ()) >= ISTIO_APIS


def believed(before: Capabilities, now: Capabilities) -> Capabilities:
    """Return what to go by after two looks in a row: Istio counts once it was seen in both. Pure.

    Its APIs come before its injector, and a pod that is created in between never gets a sidecar.
    """
    if serves_istio(now) and not serves_istio(before):
        return replace(now, istio=before.istio, tracing_provider=before.tracing_provider)
    return now


def _served_versions(api_groups: Iterable[Any]) -> set[str]:
    return {version["groupVersion"] for group in api_groups for version in group["versions"]}


def _number(version: str) -> int:
    """Return the number in `36` or `36+`, as some distributions write it."""
    match = re.match(r"\d+", version)
    return int(match.group()) if match else 0


async def _has_tracing_provider(client: Client) -> bool | None:
    try:
        config = await client.get(MESH_CONFIG)
    except (ForbiddenError, NotFoundError):
        return None
    return lists_tracing_provider(config.get("data", {}).get("mesh", ""))


def lists_tracing_provider(mesh_config: str) -> bool | None:
    """Tell whether a mesh's configuration has the provider; None for a text that Istio could not read either. Pure."""
    try:
        mesh = yaml.load(mesh_config, Loader=yaml.CSafeLoader)
    except yaml.YAMLError:
        return None
    providers = mesh.get("extensionProviders") if isinstance(mesh, dict) else None
    return any(provider.get("name") == TRACING_PROVIDER for provider in providers or ())

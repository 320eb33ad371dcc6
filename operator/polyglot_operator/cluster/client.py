"""Requests to the API server, typed errors back; the only module that sends any, watches aside.

Built on `ApiClient.call_api` of kubernetes.aio rather than on its generated API classes: a server-side apply needs no
model of its answer, and the models cost two to three times the CPU of the request.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from kubernetes.aio.client import ApiClient

from polyglot_operator.api.groups import FIELD_MANAGER
from polyglot_operator.cluster.errors import ThrottledError, UnavailableError, from_response
from polyglot_operator.cluster.kinds import Kind, Ref

CONCURRENCY: Final = 64
TIMEOUT: Final = 30.0
RETRY_DELAYS: Final = (0.2, 0.5, 1.0)
MAX_RETRY_AFTER: Final = 5.0
PAGE: Final = 500

JSON: Final = "application/json"
APPLY: Final = "application/apply-patch+yaml"
MERGE: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
METADATA_ONLY: Final = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"

Object = dict[str, Any]
Observer = Callable[[str, str, float], None]

# Nothing has this version any more: it is ignored where the apply creates, and a conflict with whatever exists.
_ABSENT: Final = {"resourceVersion": "1"}
_AS_MANAGER: Final = {"fieldManager": FIELD_MANAGER}


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: object = None
    content: str = JSON
    accept: str = JSON

    @property
    def repeatable(self) -> bool:
        """Whether sending it twice does what sending it once does."""
        return self.method != "POST"


class Client:
    """Reads and writes objects.

    Every method raises a `ClusterError`: `NotFoundError`, `ConflictError`, `InvalidError`, `ForbiddenError`,
    `ThrottledError` or `UnavailableError`. What is safe to repeat is repeated here for about two seconds first.
    `observe` is told (verb, result, seconds) of every request.
    """

    def __init__(self, api: ApiClient, observe: Observer = lambda *_: None) -> None:
        self._api = api
        self._observe = observe
        self._slots = asyncio.Semaphore(CONCURRENCY)

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()  # type: ignore[no-untyped-call]

    async def get(self, ref: Ref) -> Object:
        """Return an object as the API server has it now."""
        return await self._send(_Request("GET", ref.path))

    async def raw(self, path: str) -> Object:
        """Return what a non-resource path answers, such as `/version` or `/apis`."""
        return await self._send(_Request("GET", path))

    async def apply(self, obj: Object, uid: str | None = None, manager: str = FIELD_MANAGER) -> Object:
        """Apply the fields of `obj` by force: to that very object, or without `uid` only where there is none yet.

        Raises `ConflictError` when another object has the name now, or the one that was meant is gone.
        """
        expected = _ABSENT if uid is None else {"uid": uid}
        body = {**obj, "metadata": {**obj["metadata"], **expected}}
        query = {"fieldManager": manager, "force": "true"}
        return await self._send(_Request("PATCH", Ref.of(obj).path, query, body, APPLY))

    async def replace_spec(self, obj: Object, uid: str) -> Object:
        """Make the whole spec of an existing object that of `obj`, fields of other managers included."""
        body = [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "replace", "path": "/spec", "value": obj["spec"]},
        ]
        return await self._send(_Request("PATCH", Ref.of(obj).path, _AS_MANAGER, body, JSON_PATCH))

    async def delete(self, ref: Ref, uid: str) -> None:
        """Delete that very object; dependents follow in the background.

        Raises `NotFoundError` when it is gone and `ConflictError` when another one has its name.
        """
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid},
            "propagationPolicy": "Background",
        }
        await self._send(_Request("DELETE", ref.path, body=body))

    async def patch_status(self, ref: Ref, uid: str, status: Object) -> Object:
        """Merge `status` into the status of that very object; keys set to None are removed."""
        body = {"metadata": {"uid": uid}, "status": status}
        return await self._send(_Request("PATCH", f"{ref.path}/status", _AS_MANAGER, body, MERGE))

    async def create(self, obj: Object) -> Object:
        """Create an object that no one applies again, such as an Event; never repeated after a failure."""
        ref = Ref.of(obj)
        return await self._send(_Request("POST", ref.kind.collection(ref.namespace), _AS_MANAGER, obj))

    async def items(self, kind: Kind, namespace: str | None = None, **selectors: str) -> AsyncIterator[Object]:
        """Yield the objects of a kind page by page; selectors are the API's query parameters (`labelSelector`, …)."""
        async for page in self._pages(kind, namespace, selectors):
            for item in page["items"] or ():
                yield item

    async def metadata(self, kind: Kind, namespace: str | None, label_selector: str) -> tuple[list[Object], str]:
        """Return the metadata of all matching objects, and the resourceVersion at which this was true."""
        found: list[Object] = []
        version = ""
        async for page in self._pages(kind, namespace, {"labelSelector": label_selector}, METADATA_ONLY):
            found += [item["metadata"] for item in page["items"] or ()]  # null when there are none
            version = page["metadata"]["resourceVersion"]
        return found, version

    async def _pages(
        self, kind: Kind, namespace: str | None, selectors: Mapping[str, str], accept: str = JSON
    ) -> AsyncIterator[Object]:
        position: dict[str, str] = {}
        while True:
            query = {"limit": str(PAGE), **selectors, **position}
            page = await self._send(_Request("GET", kind.collection(namespace), query, accept=accept))
            yield page
            position = {"continue": page["metadata"].get("continue", "")}
            if not position["continue"]:
                return

    async def _send(self, request: _Request) -> Object:
        """Send a request, again after a transient failure when repeating it cannot do harm."""
        for delay in (*RETRY_DELAYS, None):
            try:
                return await self._send_once(request)
            except ThrottledError as error:
                if delay is None or error.retry_after > MAX_RETRY_AFTER:
                    raise
                await asyncio.sleep(error.retry_after)
            except UnavailableError:
                if delay is None or not request.repeatable:
                    raise
                await asyncio.sleep(delay)
        raise AssertionError("the last attempt returns or raises")

    async def _send_once(self, request: _Request) -> Object:
        began = time.monotonic()
        result = "error"
        try:
            async with self._slots:
                status, headers, data = await self._exchange(request)
            result = str(status)
        finally:
            self._observe(request.method, result, time.monotonic() - began)
        if status >= 400:
            raise from_response(status, data, headers.get("Retry-After"))
        answer: Object = json.loads(data)
        return answer

    async def _exchange(self, request: _Request) -> tuple[int, Mapping[str, str], bytes]:
        try:
            # The body goes around param_serialize, which would walk and copy every value of it.
            method, url, headers, _, _ = await self._api.param_serialize(
                request.method,
                request.path,
                query_params=list(request.query.items()),
                header_params={"Accept": request.accept, "Content-Type": request.content},
                auth_settings=["BearerToken"],
            )
            timeout = aiohttp.ClientTimeout(total=TIMEOUT)
            response = await self._api.call_api(method, url, headers, request.body, _request_timeout=timeout)
            return response.status, response.headers, await response.read()  # type: ignore[no-untyped-call]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            cause = str(error) or type(error).__name__
            raise UnavailableError(f"{request.method} {request.path}: {cause}") from error

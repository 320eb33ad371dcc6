"""The clients, each unmodified: Triton's four made callable in one way, Triton's own gRPC stub, and plain HTTP."""

from __future__ import annotations

import asyncio
import inspect
import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from polyglot_platform.environments import environment
from tests.conformance import suite
from tests.conformance.suite import AIO_GRPC, AIO_HTTP, GRPC, HTTP, JSON, KSERVE_REST
from tests.http import Reply, call

if TYPE_CHECKING:
    from tests.conformance.targets import Instance

SECONDS = 15
"""How long any call may take."""
SDK_SECONDS = 45
"""How long KServe's SDK may take for all that it is asked; most of it to start."""

_MODULES = {
    HTTP: tritonclient.http,
    JSON: tritonclient.http,
    AIO_HTTP: tritonclient.http.aio,
    GRPC: tritonclient.grpc,
    AIO_GRPC: tritonclient.grpc.aio,
}


def connect(client: str, instance: Instance) -> AbstractContextManager[Any]:
    """Return a client of a running server, for the length of a block."""
    match client:
        case suite.REST:
            return nullcontext(Rest(instance))
        case suite.STUB:
            return _stub(instance)
        case suite.KSERVE_REST | suite.KSERVE_GRPC:
            return nullcontext(KServe(client, instance))
    return _triton(client, instance)


class Triton:
    """One of Triton's clients; calls of the asyncio ones are awaited here."""

    def __init__(self, kind: str, instance: Instance, client: Any, runner: asyncio.Runner) -> None:
        self.kind = kind
        self.instance = instance
        self.native = client
        self._runner = runner

    @property
    def http(self) -> bool:
        """Whether it speaks REST."""
        return self.kind in {HTTP, JSON, AIO_HTTP}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a call of Triton's client."""
        method = getattr(self.native, name)

        def called(*arguments: Any, **keywords: Any) -> Any:
            result = method(*arguments, **keywords)
            return self.wait(result) if inspect.isawaitable(result) else result

        return called

    def wait(self, awaitable: Any) -> Any:
        """Return what an awaitable of the client comes to."""

        async def bounded() -> Any:
            return await asyncio.wait_for(awaitable, SECONDS)

        return self._runner.run(bounded())

    def json(self, method: str, *arguments: Any, **keywords: Any) -> Any:
        """Call a method that describes something, and return plain JSON over either transport."""
        if not self.http:
            keywords["as_json"] = True
        return getattr(self, method)(*arguments, **keywords)

    def tensor(self, name: str, array: Any, *, datatype: str = "", binary: bool | None = None) -> Any:
        """Return an input; over HTTP `binary` overrules the form that this client uses."""
        binary = self.kind != JSON if binary is None else binary
        made = _MODULES[self.kind].InferInput(name, list(array.shape), datatype or np_to_triton_dtype(array.dtype))
        return made.set_data_from_numpy(array, binary) if self.http else made.set_data_from_numpy(array)

    def shared(self, name: str, like: Any, region: str, offset: int = 0) -> Any:
        """Return an input of an array's shape and datatype whose data lie in a shared-memory region."""
        made = _MODULES[self.kind].InferInput(name, list(like.shape), np_to_triton_dtype(like.dtype))
        made.set_shared_memory(region, like.nbytes, offset)
        return made

    def output(self, name: str, *, binary: bool | None = None) -> Any:
        """Return a request for an output, in the form that this client uses."""
        binary = self.kind != JSON if binary is None else binary
        requested = _MODULES[self.kind].InferRequestedOutput
        return requested(name, binary_data=binary) if self.http else requested(name)

    def numbers(self, low: int = 0) -> list[Any]:
        """Return the inputs of `arithmetic`: a counts up from `low`, b is 1 everywhere."""
        return [
            self.tensor("a", np.arange(low, low + 8, dtype=np.int32).reshape(2, 4)),
            self.tensor("b", np.ones((2, 4), dtype=np.int32)),
        ]

    def slow(self, name: str, seconds: float) -> list[Any]:
        """Return the inputs of `slow`."""
        return [
            self.tensor("seconds", np.array([seconds], dtype=np.float32)),
            self.tensor("name", text(name)),
        ]


def text(*words: str | bytes) -> Any:
    """Return a BYTES tensor."""
    return np.array([word.encode() if isinstance(word, str) else word for word in words], dtype=np.object_)


@contextmanager
def _triton(kind: str, instance: Instance) -> Iterator[Triton]:
    module, address = _MODULES[kind], instance.grpc if kind in {GRPC, AIO_GRPC} else instance.rest
    limits = (
        {"concurrency": 4, "connection_timeout": SECONDS, "network_timeout": SECONDS} if kind in {HTTP, JSON} else {}
    )
    with asyncio.Runner() as runner:

        async def asynchronous() -> Any:  # some clients look for a running loop when they are made
            return module.InferenceServerClient(address, **limits)

        client = (
            runner.run(asynchronous())
            if kind in {AIO_HTTP, AIO_GRPC}
            else module.InferenceServerClient(address, **limits)
        )
        made = Triton(kind, instance, client, runner)
        try:
            yield made
        finally:
            made.close()


class Rest:
    """Plain HTTP."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance

    def call(self, path: str, body: object = None, **keywords: Any) -> Reply:
        """Send a request; return the reply whatever its status."""
        return call(f"http://{self.instance.rest}{path}", body, timeout=SECONDS, **keywords)

    def infer(self, model: str, *inputs: tuple[str, str, Sequence[int], Any], **fields: Any) -> Any:
        """Return the answer to a JSON request with inputs as (name, datatype, shape, data)."""
        return self.json(f"/v2/models/{model}/infer", request_of(*inputs, **fields))

    def json(self, path: str, body: object = None, **keywords: Any) -> Any:
        """Return the JSON of a reply that must be 200; else fail as Triton's client does."""
        reply = self.call(path, body, **keywords)
        if reply.status != 200:
            raise InferenceServerException(str(error_of(reply)), str(reply.status))
        return reply.json()


def request_of(*inputs: tuple[str, str, Sequence[int], Any], **fields: Any) -> dict[str, Any]:
    """Return the JSON of a request."""
    names = ("name", "datatype", "shape", "data")
    return {"inputs": [dict(zip(names, tensor, strict=True)) for tensor in inputs], **fields}


def error_of(reply: Reply) -> str:
    """Return the text of a refusal, from where clients look for it."""
    try:
        error = reply.json()["error"]
    except (ValueError, KeyError, TypeError):
        raise AssertionError(f"{reply.status} without an `error` in the body: {reply.body[:200]!r}") from None
    assert isinstance(error, str), f"`error` is {error!r}, not text"
    return error


class Stub:
    """Triton's own gRPC stub; failures come as Triton's client reports them."""

    def __init__(self, instance: Instance, channel: grpc.Channel) -> None:
        self.instance = instance
        self.channel = channel
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

    def __getattr__(self, name: str) -> Callable[[Any], Any]:
        """Return an RPC."""
        rpc = getattr(self._stub, name)

        def called(request: Any) -> Any:
            try:
                return rpc(request, timeout=SECONDS)
            except grpc.RpcError as error:
                raise InferenceServerException(error.details(), str(error.code())) from None

        return called


@contextmanager
def _stub(instance: Instance) -> Iterator[Stub]:
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with closing(grpc.insecure_channel(instance.grpc, options=unlimited)) as channel:
        yield Stub(instance, channel)


class KServe:
    """KServe's SDK, which runs once for a server, in an environment and a process of its own."""

    def __init__(self, kind: str, instance: Instance) -> None:
        self.kind = kind
        self.instance = instance

    def probe(self, name: str) -> None:
        """Raise what the SDK found wrong in one of its checks."""
        if self.kind not in self.instance.found:
            self.instance.found[self.kind] = self._ask()
        failure = self.instance.found[self.kind][name]
        assert failure is None, failure

    def _ask(self) -> dict[str, str | None]:
        address = self.instance.rest if self.kind == KSERVE_REST else self.instance.grpc
        script = Path(__file__).with_name("kserve_client.py")
        command = [str(environment("kserve").python), str(script), self.kind.removeprefix("kserve "), address]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=SDK_SECONDS)
        found: dict[str, str | None] = json.loads(answer.stdout)
        return found

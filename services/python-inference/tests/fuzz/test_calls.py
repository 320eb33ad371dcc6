"""Whatever callers send, in any order, to any method: a documented answer, and a server that goes on serving."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from polyglot_inference.errors import InferenceError, InternalError, ModelFailedError
from polyglot_inference.protocol.calls import SERVICE
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.runtime.shared_memory import FOLDER
from polyglot_inference.settings import AdministrationSettings, BatchingSettings, SharedMemorySettings

if TYPE_CHECKING:
    from polyglot_inference.settings import ModelSettings
    from tests.conftest import RawRequest, Serve, Serving, WritePython

SECONDS = 20
STREAM = "ModelStreamInfer"
MOST_BYTES = 8192  # so small that the names in a request can exceed it
KEY = f"/polyglot_fuzz_{os.getpid()}"
KEY_BYTES = 64

ECHO = """
    from polyglot_inference import TensorSpec

    class Model:
        inputs = outputs = [TensorSpec("x", "{datatype}", [-1])]

        def predict(self, inputs):
            return inputs
"""
COUNT = """
    import numpy as np
    from polyglot_inference import TensorSpec

    class Model:
        inputs = outputs = [TensorSpec("x", "INT64", [1])]

        async def stream(self, inputs):
            for number in range(int(inputs["x"][0]) % 4):
                yield {"x": np.array([number])}
"""
UNLOADABLE = "raise RuntimeError('no weights')"


def documented() -> set[str]:
    """The codes that a caller may be told. The models here do not fail, and a fault of the server is none of them."""
    found, classes = set(), [InferenceError]
    while classes:
        cls = classes.pop()
        classes += cls.__subclasses__()
        if cls not in {InferenceError, InternalError, ModelFailedError}:
            found.add(cls.code)
    return found


CODES = documented()


class Calls(NamedTuple):
    """What one caller does: a call of a method with one message, or a stream of several."""

    method: str
    messages: Sequence[bytes]
    fails_at_once: bool = False


# Words that lead somewhere, and numbers at the edges of what fits.
WORDS = ["", "identity", "echo", "batched", "count", "unloadable", "1", "x", "y", "FP32", "INT64", "BYTES", "BF16"]
WORDS += ["region", KEY, "/polyglot_", "/polyglot_.", "OFF", "TIMESTAMPS", "TENSORS", "default", "ISO8601"]
WORDS += ["trace_level", "trace_rate", "trace_count", "log_info", "log_verbose_level", "log_format", "log_file"]
WORDS += ["shared_memory_region", "shared_memory_offset", "shared_memory_byte_size", "timeout", "classification"]
WORDS += ["triton_enable_empty_final_response", "unload_dependents", "9" * 5000, "-0", "i" * (MOST_BYTES - 200)]
words = st.sampled_from(WORDS) | st.text(max_size=6)
INTEGERS = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
}


def messages(descriptor: Descriptor) -> st.SearchStrategy[Message]:
    """Messages of a type, with any of its fields."""
    fields = {field.name: field_values(field) for field in descriptor.fields}
    return st.fixed_dictionaries({}, optional=fields).map(lambda values: GetMessageClass(descriptor)(**values))


def field_values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.message_type and field.message_type.GetOptions().map_entry:
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        return st.dictionaries(single_values(key), single_values(value), max_size=2)
    return st.lists(single_values(field), max_size=3) if field.is_repeated else single_values(field)


def single_values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return st.deferred(lambda: messages(field.message_type))
    if field.type in INTEGERS:
        least, most = INTEGERS[field.type]
        return st.integers(0, 3) | st.sampled_from([least, most]) | st.integers(least, most)
    return {
        FieldDescriptor.TYPE_DOUBLE: st.floats(),
        FieldDescriptor.TYPE_FLOAT: st.floats(width=32),
        FieldDescriptor.TYPE_BOOL: st.booleans(),
        FieldDescriptor.TYPE_BYTES: st.binary(max_size=16),
        FieldDescriptor.TYPE_STRING: words,
    }[field.type]


def inferences() -> st.SearchStrategy[Message]:
    """Requests that mostly reach a model."""
    return st.builds(
        lambda model, numbers, name, parameters: inference(model, numbers, id=name, parameters=parameters),
        st.sampled_from(["identity", "echo", "batched", "count"]),
        st.lists(st.integers(0, 9), min_size=1, max_size=4),
        words,
        field_values(pb.ModelInferRequest.DESCRIPTOR.fields_by_name["parameters"]),
    )


def inference(model: str, numbers: Sequence[int], **fields: Any) -> pb.ModelInferRequest:
    count = len(numbers)
    datatype, shape, dtype = ("FP32", [1, count], np.float32) if model == "identity" else ("INT64", [count], np.int64)
    request = pb.ModelInferRequest(model_name=model, raw_input_contents=[np.array(numbers, dtype).tobytes()], **fields)
    request.inputs.add(name="x", datatype=datatype, shape=shape)
    return request


def serialized(strategy: st.SearchStrategy[Message]) -> st.SearchStrategy[bytes]:
    whole = strategy.map(lambda message: message.SerializeToString())
    # Beyond that grpc-core answers, in words of its own.
    return whole.filter(lambda data: len(data) <= 2 * MOST_BYTES) | st.binary(max_size=8)


unary = st.sampled_from([method for method in SERVICE.methods if method.name != STREAM]).flatmap(
    lambda method: st.builds(
        Calls, st.just(method.name), st.lists(serialized(messages(method.input_type)), min_size=1, max_size=1)
    )
)
requests = serialized(inferences()) | serialized(messages(pb.ModelInferRequest.DESCRIPTOR))
streams = st.builds(Calls, st.just(STREAM), st.lists(requests, max_size=6), st.booleans())


def call_of(method: str, *sent: Message) -> Calls:
    return Calls(method, [message.SerializeToString() for message in sent])


@pytest.fixture
def models(identity: ModelSettings, python_model: WritePython) -> list[ModelSettings]:
    batched = python_model("batched", ECHO.format(datatype="INT64"))
    return [
        identity,
        python_model("echo", ECHO.format(datatype="INT64")),
        batched.model_copy(update={"batching": BatchingSettings.model_validate({"maxSize": 8})}),
        python_model("count", COUNT),
    ]


@pytest.fixture
def caller(serve: Serve, models: list[ModelSettings], raw_request: RawRequest) -> Iterator[Caller]:
    file = FOLDER / KEY.removeprefix("/")
    file.write_bytes(bytes(KEY_BYTES))
    served = serve(
        *models,
        max_message_bytes=MOST_BYTES,
        administration=AdministrationSettings(mode="Full"),
        shared_memory=SharedMemorySettings(enabled=True),
    )
    with asyncio.Runner() as runner:
        serving = runner.run(served.__aenter__())
        # From now on it cannot be loaded.
        (models[1].path / "model.py").write_text(UNLOADABLE)
        yield Caller(runner, serving)
        runner.run(served.__aexit__(None, None, None))
    file.unlink()


class Caller:
    """Calls a server, and judges its answers."""

    def __init__(self, runner: asyncio.Runner, serving: Serving) -> None:
        self._runner = runner
        self._serving = serving

    def make(self, plan: Sequence[Calls]) -> None:
        """Make calls one after the other, then see whether the server still serves."""
        self._runner.run(self._make(plan))

    async def _make(self, plan: Sequence[Calls]) -> None:
        for calls in plan:
            if calls.method == STREAM:
                await self._stream(calls)
            else:
                await self._call(calls.method, calls.messages[0])
        await self._require_alive()

    async def _call(self, method: str, message: bytes) -> None:
        try:
            call: Any = self._serving.channel.unary_unary(f"/{SERVICE.full_name}/{method}")
            answer = await call(message, timeout=SECONDS)
        except grpc.aio.AioRpcError as error:
            require_documented(code(error), (method, message, error))
        else:
            GetMessageClass(SERVICE.methods_by_name[method].output_type).FromString(answer)

    async def _stream(self, calls: Calls) -> None:
        metadata = (("triton_grpc_error", "true"),) if calls.fails_at_once else ()
        call: Any = self._serving.channel.stream_stream(f"/{SERVICE.full_name}/{STREAM}")
        stream = call(iter(calls.messages), timeout=SECONDS, metadata=metadata)
        final, ended_by_failure = 0, False
        try:
            async for data in stream:
                answer = pb.ModelStreamInferResponse.FromString(data)
                parameters = answer.infer_response.parameters
                if answer.error_message:
                    require_documented(parameters["x-error-code"].string_param, (calls, answer))
                counted = answer.infer_response.model_name != "count"
                final += counted and parameters["triton_final_response"].bool_param
        except grpc.aio.AioRpcError as error:
            # Of a stream that ends while it still writes, the client may know nothing but that its write failed.
            if error.details() != "Internal error from Core":
                require_documented(code(error), (calls, error))
            ended_by_failure = True
        if ended_by_failure:
            assert calls.fails_at_once, calls
        else:
            assert final == sum(model_of(message) != "count" for message in calls.messages), calls

    async def _require_alive(self) -> None:
        stub = self._serving.stub
        assert (await stub.ServerReady(pb.ServerReadyRequest(), timeout=SECONDS)).ready
        await stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="batched"), timeout=SECONDS)
        answer = await stub.ModelInfer(inference("batched", [1, 2]), timeout=SECONDS)
        assert np.frombuffer(answer.raw_output_contents[0], np.int64).tolist() == [1, 2]


def require_documented(told: str, of: object) -> None:
    assert told in CODES, f"{told} is the answer to {of}"


def code(error: grpc.aio.AioRpcError) -> str:
    return str(dict(error.trailing_metadata() or ()).get("x-error-code"))


def model_of(message: bytes) -> str:
    try:
        return pb.ModelInferRequest.FromString(message).model_name
    except DecodeError:
        return ""


HUGE_NUMBER = pb.TraceSettingRequest(settings={"trace_count": pb.TraceSettingRequest.SettingValue(value=["9" * 5000])})
ENDED_WHILE_ANSWERS_ARE_WRITTEN = Calls(
    STREAM,
    [inference(model, [1], id="z").SerializeToString() for model in ("echo", "batched", "echo", "absent", "echo", "")],
    fails_at_once=True,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(plan=st.lists(unary | streams, max_size=8))
@example(plan=[call_of("TraceSetting", HUGE_NUMBER)])
@example(plan=[call_of(STREAM, inference("echo", [1], id="i" * MOST_BYTES), inference("echo", [2], id="next"))])
@example(plan=[call_of(STREAM, inference("identity", [1], id="i" * (MOST_BYTES - 100)), inference("echo", [2]))])
@example(plan=[ENDED_WHILE_ANSWERS_ARE_WRITTEN] * 20)
@example(plan=[call_of("ModelInfer", inference("i" * (MOST_BYTES - 100), [1]))])
def test_any_calls_get_documented_answers_and_leave_the_server_alive(caller: Caller, plan: list[Calls]) -> None:
    caller.make(plan)

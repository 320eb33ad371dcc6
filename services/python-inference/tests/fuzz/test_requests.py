"""Whatever is sent as ModelInfer: its own tensors come back, or a typed error, in memory bounded by what was sent."""

from __future__ import annotations

import math
import tracemalloc
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from polyglot_inference.errors import InferenceError, InternalError, ModelFailedError
from polyglot_inference.protocol import codec
from polyglot_inference.protocol.calls import parsed
from polyglot_inference.protocol.form import Form, Forms, take_raws
from polyglot_inference.protocol.inference import Inference
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.runtime.author import Authored, Method
from polyglot_inference.runtime.python import PythonModel
from polyglot_inference.runtime.shared_memory import FOLDER, SharedMemory
from polyglot_inference.tensors import BYTES, NUMPY_DTYPES, TensorSpec

# Regions to read inputs from and to write outputs to, so that no output overwrites an input.
FROM, TO = "from", "to"
REGION_BYTES = 256

# A BYTES element is four bytes when sent and some fifty as an object in an array.
MOST_BYTES_PER_BYTE_SENT = 64
MOST_BYTES_BESIDE = 2**17


@pytest.fixture(scope="module")
def memory() -> Iterator[SharedMemory]:
    prefix = f"/polyglot-fuzz-{uuid.uuid4().hex}-"
    memory = SharedMemory(prefix, 3 * REGION_BYTES // 2)
    files = [FOLDER / f"{prefix[1:]}{region}" for region in (FROM, TO)]
    for region, file in zip((FROM, TO), files, strict=True):
        file.write_bytes(bytes(REGION_BYTES))
        memory.register(region, f"/{file.name}", 0, REGION_BYTES)
    yield memory
    for file in files:
        file.unlink()


sizes = st.integers(0, 3) | st.sampled_from([-1, -(2**63), 2**31, 2**32, 2**62, 2**63 - 1])
wrong_shapes = st.lists(sizes, max_size=4) | st.sampled_from([[1] * 65, [0, 2**62, 2**62], [2**33, 2**31]])
junk = st.builds(
    pb.InferTensorContents,
    bool_contents=st.lists(st.booleans(), max_size=2),
    int_contents=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=2),
    uint64_contents=st.lists(st.integers(0, 2**64 - 1), max_size=2),
    fp32_contents=st.lists(st.floats(width=32), max_size=2),
    bytes_contents=st.lists(st.binary(max_size=3), max_size=2),
)
places = st.integers(0, REGION_BYTES) | st.sampled_from([-1, 2**63 - 1, -(2**63)])
parameters = st.dictionaries(
    st.sampled_from(["timeout", "sequence_id", "classification", "shared_memory_offset", "own"]) | st.text(max_size=3),
    st.one_of(
        st.builds(pb.InferParameter, int64_param=places),
        st.builds(pb.InferParameter, string_param=st.text(max_size=3)),
        st.builds(pb.InferParameter, double_param=st.floats()),
        st.just(pb.InferParameter()),
    ),
    max_size=2,
)


@st.composite
def raw_tensors(draw: st.DrawFn, datatype: str) -> tuple[list[int], bytes]:
    """The shape and the raw form of a tensor."""
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    count = math.prod(shape)
    if datatype == BYTES:
        elements = draw(st.lists(st.binary(max_size=5), min_size=count, max_size=count))
        return shape, b"".join(len(element).to_bytes(4, "little") + element for element in elements)
    size = count * NUMPY_DTYPES[datatype].itemsize
    raw = draw(st.binary(min_size=size, max_size=size))
    return shape, bytes(byte & 1 for byte in raw) if datatype == "BOOL" else raw


def place(draw: st.DrawFn, tensor: Any, region: str, size: int) -> None:
    """Say that a tensor lies, or shall lie, in shared memory; now and then where it cannot."""
    for key, value in (("offset", draw(places)), ("byte_size", draw(st.just(size) | places))):
        tensor.parameters[f"shared_memory_{key}"].int64_param = value
    tensor.parameters["shared_memory_region"].string_param = draw(st.just(region) | st.text(max_size=3))


@st.composite
def exchanges(draw: st.DrawFn) -> tuple[list[TensorSpec], bytes]:
    """What a model declares as its inputs, which are its outputs, too; and a request, right in most respects."""
    request = pb.ModelInferRequest(model_name="m", id=draw(st.text(max_size=3)))
    declared = []
    usual_form = draw(st.sampled_from(["raw", "typed", "shared"]))
    wrong = draw(st.sampled_from(["nothing", "nothing", "shape", "form", "data", "parameters"]))
    for name in draw(st.sampled_from([["x"], ["x", "z"], []])):
        datatype = draw(st.sampled_from(list(NUMPY_DTYPES)))
        shape, raw = draw(raw_tensors(datatype))
        form = draw(st.sampled_from(["raw", "typed", "shared", "none"])) if wrong == "form" else usual_form
        tensor = request.inputs.add(name=name, datatype=datatype)
        if form == "raw":
            request.raw_input_contents.append(draw(st.binary(max_size=20)) if wrong == "data" else raw)
        elif form == "shared":
            place(draw, tensor, FROM, len(raw))
        elif form == "typed" and datatype in codec.CONTENTS_FIELDS:
            right = codec.encode_contents(codec.decode_raw(name, datatype, shape, raw), datatype)
            tensor.contents.CopyFrom(draw(junk) if wrong == "data" else right)
        shape = draw(wrong_shapes) if wrong == "shape" else shape
        tensor.shape.extend(shape)
        if wrong == "parameters":
            for owner in (tensor, request):
                for key, value in draw(parameters).items():
                    owner.parameters[key].CopyFrom(value)
        if draw(st.booleans()):
            output = request.outputs.add(name=name)
            if draw(st.booleans()):
                place(draw, output, TO, REGION_BYTES // 2)
        declared.append(TensorSpec(name, datatype, [-1] * len(shape)))
    return declared, damaged(draw, request.SerializeToString())


def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes as they are, or with some of them replaced or missing."""
    if not data or draw(st.integers(0, 3)):
        return data
    start = draw(st.integers(0, len(data) - 1))
    end = draw(st.integers(start, min(start + 4, len(data))))
    return data[:start] + draw(st.binary(max_size=4)) + data[end:]


def echo(declared: Sequence[TensorSpec]) -> PythonModel:
    """A model that gives back what it gets."""
    predict = Method(lambda inputs: inputs, wants_request=False)
    specs = tuple(declared)
    return PythonModel("m", Authored(specs, specs, predict=predict, stream=None, streams_async=False))


def request_of(datatype: str, shape: Sequence[int], raw: bytes) -> tuple[list[TensorSpec], bytes]:
    request = pb.ModelInferRequest(model_name="m", raw_input_contents=[raw])
    request.inputs.add(name="x", datatype=datatype, shape=shape)
    return [TensorSpec("x", datatype, [-1] * len(shape))], request.SerializeToString()


def request_in_shared_memory(datatype: str, elements: int) -> tuple[list[TensorSpec], bytes]:
    request, size = pb.ModelInferRequest(model_name="m"), elements * NUMPY_DTYPES[datatype].itemsize
    tensors: dict[str, Any] = {
        FROM: request.inputs.add(name="x", datatype=datatype, shape=[elements]),
        TO: request.outputs.add(name="x"),
    }
    for region, tensor in tensors.items():
        tensor.parameters["shared_memory_region"].string_param = region
        tensor.parameters["shared_memory_byte_size"].int64_param = size
    return [TensorSpec("x", datatype, [-1])], request.SerializeToString()


@given(exchange=exchanges() | st.tuples(st.just([TensorSpec("x", "FP32", [-1])]), st.binary()))
@example(exchange=request_of("FP64", [2**31, 2**31], b""))
@example(exchange=request_of("FP32", [2**62, 4], b""))
@example(exchange=request_of("BF16", [0, 2**62, 2**62], b""))
@example(exchange=request_of("INT8", [1] * 65, b"1"))
@example(exchange=request_of(BYTES, [2**31], bytes(8)))
@example(exchange=request_in_shared_memory("INT16", 3))
@example(exchange=request_in_shared_memory("BF16", 0))
@example(exchange=request_of(BYTES, [1], b"\xff\xff\xff\xff"))
def test_any_request_comes_back_or_is_refused_in_bounded_memory(
    memory: SharedMemory, exchange: tuple[list[TensorSpec], bytes]
) -> None:
    declared, data = exchange
    tracemalloc.start()
    try:
        answered = answer(declared, data, memory)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= MOST_BYTES_BESIDE + MOST_BYTES_PER_BYTE_SENT * (len(data) + 2 * REGION_BYTES)
    if answered:
        assert_gives_back(*answered, memory)


def answer(
    declared: Sequence[TensorSpec], data: bytes, memory: SharedMemory
) -> tuple[Inference, pb.ModelInferResponse] | None:
    """The request and its answer, by the steps of the server; None where it is refused."""
    model = echo(declared)
    try:
        request = parsed(pb.ModelInferRequest.FromString, data)
        raws = take_raws(request)
        inference = Inference(request, raws, Form.of(request, raws, model, memory))
        results = model.predict(inference.tensors(), inference.form.output_names, inference.described())
        return inference, pb.ModelInferResponse.FromString(inference.response(results, "1"))
    except (InternalError, ModelFailedError):
        raise
    except InferenceError as refusal:
        if refusal.message:
            return None
        raise


def assert_gives_back(inference: Inference, response: pb.ModelInferResponse, memory: SharedMemory) -> None:
    if any(shared.region.name == FROM for shared in inference.form.shared_outputs.values()):
        return  # damage made an output of an input: it may lie over another input
    sent, request = inference.tensors(), inference.request
    assert (response.id, [output.name for output in response.outputs]) == (request.id, inference.form.output_names)
    for place_in_answer, output in enumerate(response.outputs):
        tensor, shape = sent[output.name], list(output.shape)
        assert shape == next(list(given.shape) for given in request.inputs if given.name == output.name)
        if "shared_memory_region" in output.parameters:
            offset, size = (output.parameters[f"shared_memory_{key}"].int64_param for key in ("offset", "byte_size"))
            raw = memory.region(TO).read(offset, size).tobytes()
        elif response.raw_output_contents:
            raw = response.raw_output_contents[place_in_answer]
        else:
            typed = codec.decode_contents(output.name, output.datatype, shape, output.contents)
            np.testing.assert_array_equal(typed, tensor, strict=True)
            continue
        assert raw == codec.encode_raw(tensor, output.datatype)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[TensorSpec], list[bytes]]:
    """What a model declares, and requests to it that differ little from each other; each comes twice."""
    declared, data = draw(exchanges())
    requests = []
    for _ in range(draw(st.integers(1, 4))):
        try:
            request = pb.ModelInferRequest.FromString(data)
        except DecodeError:
            break
        for change in draw(st.lists(st.sampled_from(["id", "shape", "data", "outputs", "parameters"]), max_size=2)):
            if change == "id":
                request.id = draw(st.text(max_size=3))
            elif change == "outputs":
                request.outputs.add(name=draw(st.sampled_from(["x", "z"])))
            elif change == "parameters":
                for key, value in draw(parameters).items():
                    request.parameters[key].CopyFrom(value)
            elif change == "shape" and request.inputs:
                request.inputs[0].shape.reverse()
            elif request.raw_input_contents:
                request.raw_input_contents[0] = request.raw_input_contents[0][::-1]
        requests.append(request.SerializeToString())
    return declared, [*requests, data, *requests, damaged(draw, data), data]


@given(conversation=conversations())
def test_a_known_form_is_served_as_if_it_were_new(
    memory: SharedMemory, conversation: tuple[list[TensorSpec], list[bytes]]
) -> None:
    declared, requests = conversation
    model = echo(declared)
    forms = Forms(model)
    for data in requests:
        known = outcome(model, data, lambda request, raws: forms.of(request, raws, memory))
        assert known == outcome(model, data, lambda request, raws: Form.of(request, raws, model, memory))


def outcome(
    model: PythonModel, data: bytes, form_of: Callable[[pb.ModelInferRequest, Sequence[bytes]], Form]
) -> object:
    """All that callers and the queue learn of a request; for a refused one the reason."""
    try:
        request = parsed(pb.ModelInferRequest.FromString, data)
        raws = take_raws(request)
        form = form_of(request, raws)
        learnt = form.signature, form.rows, form.raw, list(form.shared_outputs)
        if any(shared.region.name == FROM for shared in form.shared_outputs.values()):
            return learnt  # damage made an output of an input, which would be another one the next time
        inference = Inference(request, raws, form)
        results = model.predict(inference.tensors(), form.output_names, inference.described())
        return learnt, inference.response(results, "1")
    except InferenceError as refusal:
        return type(refusal), refusal.message

"""Whatever a model's author returns, yields or raises: an answer that is as declared, or a ModelFailedError."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from polyglot_inference.errors import ModelFailedError
from polyglot_inference.protocol import codec
from polyglot_inference.protocol.form import Form, take_raws
from polyglot_inference.protocol.inference import Inference
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.runtime.author import Authored, Method
from polyglot_inference.runtime.model import NO_REQUEST
from polyglot_inference.runtime.python import PythonModel
from polyglot_inference.tensors import NUMPY_DTYPES, Array, TensorSpec


class Unreadable(Mapping[str, object]):
    """A mapping whose values cannot be had."""

    def __getitem__(self, key: str) -> object:
        raise RuntimeError("lazy loading failed")

    def __iter__(self) -> Iterator[str]:
        return iter(["y"])

    def __len__(self) -> int:
        return 1


class Speechless(Exception):  # noqa: N818 - no name of ours
    """An error that cannot be printed."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def masked(array: Any) -> Any:
    return np.ma.masked_array(array, mask=np.ones(array.shape, dtype=bool))


shapes = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
dtypes = st.sampled_from(list(NUMPY_DTYPES.values())) | arrays.scalar_dtypes() | arrays.array_dtypes()
things = st.none() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5)
plain_arrays = st.one_of(
    st.builds(np.zeros, shapes, dtypes),
    shapes.flatmap(lambda shape: arrays.arrays(np.dtype(object), shape, elements=things)),
    shapes.flatmap(lambda shape: arrays.arrays(np.dtype(object), shape, elements=st.binary(max_size=5))),
)
any_arrays = plain_arrays | st.one_of(
    plain_arrays.map(masked),
    plain_arrays.filter(lambda array: array.ndim == 2).map(np.asmatrix),
    plain_arrays.map(lambda array: array.T),
    plain_arrays.map(lambda array: array[..., ::-1] if array.ndim else array),
)
any_answers = st.one_of(
    st.fixed_dictionaries({"y": any_arrays}, optional={"other": things}),
    st.dictionaries(things, any_arrays | things, max_size=3),
    st.lists(any_arrays, max_size=2),
    any_arrays,
    things,
    st.just(Unreadable()),
    st.builds(ValueError, st.text(max_size=5)),
    st.just(Speechless()),
    st.just(StopIteration()),
)
outputs = st.builds(
    TensorSpec,
    st.just("y"),
    st.sampled_from(list(NUMPY_DTYPES)),
    st.lists(st.integers(-1, 3), max_size=3),
)
X = TensorSpec("x", "FP32", [1])
FP32 = TensorSpec("y", "FP32", [-1, -1])
ONES = np.ones((2, 2), dtype=np.float32)


def authored(answer: object, output: TensorSpec) -> PythonModel:
    """A model of an author who gives or raises `answer`, once and in a stream."""

    def predict(_inputs: object) -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    def stream(inputs: object) -> Iterator[object]:
        yield predict(inputs)

    methods = {"predict": Method(predict, wants_request=False), "stream": Method(stream, wants_request=False)}
    return PythonModel("m", Authored(inputs=(X,), outputs=(output,), streams_async=False, **methods))


def requests() -> Iterator[pb.ModelInferRequest]:
    """A raw and a typed one; the answer has the form of the question."""
    raw, typed = (pb.ModelInferRequest(model_name="m") for _ in range(2))
    for request in (raw, typed):
        request.inputs.add(name=X.name, datatype=X.datatype, shape=X.shape)
    raw.raw_input_contents.append(bytes(4))
    typed.inputs[0].contents.fp32_contents.append(0)
    yield from (raw, typed)


@given(answer=any_answers, output=outputs)
@example({"y": np.asmatrix(ONES)}, FP32)
@example({"y": masked(ONES)}, FP32)
@example({"y": np.asfortranarray(ONES)}, FP32)
@example(Unreadable(), FP32)
@example(Speechless(), FP32)
@example(ValueError("\udcff"), FP32)
def test_any_answer_of_a_model_is_written_as_declared_or_is_its_failure(answer: object, output: TensorSpec) -> None:
    model = authored(answer, output)

    def first_of_stream(*arguments: Any) -> Mapping[str, Array]:
        assert model.stream is not None
        steps = model.stream(*arguments)
        assert isinstance(steps, Generator)
        return next(steps)

    for request in requests():
        raws = take_raws(request)
        inference = Inference(request, raws, Form.of(request, raws, model))
        inputs, names = inference.tensors(), inference.form.output_names
        for give in (model.predict, first_of_stream):
            try:
                written = inference.response(give(inputs, names, NO_REQUEST), "1")
            except ModelFailedError as error:
                sent = pb.ModelStreamInferResponse(error_message=error.message)
            else:
                response = pb.ModelInferResponse.FromString(written)
                sent = pb.ModelStreamInferResponse(infer_response=response)
                assert_as_declared(sent.infer_response, output, answer)
            assert sent.SerializeToString()


def assert_as_declared(response: pb.ModelInferResponse, declared: TensorSpec, answer: Any) -> None:
    (output,) = response.outputs
    assert (output.name, output.datatype) == (declared.name, declared.datatype)
    assert declared.admits(output.shape)
    if response.raw_output_contents:
        read = codec.decode_raw("y", output.datatype, output.shape, response.raw_output_contents[0])
    else:
        read = codec.decode_contents("y", output.datatype, output.shape, output.contents)
    assert read.dtype == declared.dtype
    given = np.asarray(answer["y"])
    if given.dtype.kind in "fV":  # a NaN's payload may change on its way through a Python float
        given, read = given.astype(np.float64), read.astype(np.float64)
    np.testing.assert_array_equal(read, given)

"""Calls that run together: each gets its own rows, and the failure of one is its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyglot_inference.batching.execution import Execution, Member, Outcome
from polyglot_inference.errors import InvalidTensorError, ModelFailedError
from polyglot_inference.lifecycle import InFlight
from polyglot_inference.protocol import codec
from polyglot_inference.protocol.form import Form, take_raws
from polyglot_inference.protocol.inference import Inference, stacked
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.runtime.model import NO_REQUEST, Request
from polyglot_inference.telemetry.metrics import Metrics
from polyglot_inference.telemetry.statistics import ModelStatistics
from polyglot_inference.telemetry.traces import NO_CALLER, Tracing
from polyglot_inference.tensors import Array, TensorSpec


class Model:
    """Doubles numbers and repeats texts; fails on a negative number, whoever's it is."""

    platform = "python"
    inputs: Sequence[TensorSpec] = (TensorSpec("number", "FP32", [-1, 2]), TensorSpec("text", "BYTES", [-1]))
    outputs: Sequence[TensorSpec] = (TensorSpec("double", "FP32", [-1, 2]), TensorSpec("twice", "BYTES", [-1]))
    concurrency = 1
    wants_request = False
    stream = None

    def __init__(self) -> None:
        self.rows: list[int] = []

    def predict(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], request: Request = NO_REQUEST
    ) -> Mapping[str, Array]:
        del outputs, request
        self.rows.append(len(inputs["number"]))
        if (inputs["number"] < 0).any():
            raise RuntimeError("negative")
        return {"double": inputs["number"] * 2, "twice": inputs["text"] + inputs["text"]}


class Scaling(Model):
    """Only numbers, whose rows are strung together as bytes."""

    inputs = (TensorSpec("number", "FP32", [-1, 2]), TensorSpec("factor", "INT16", [-1]))
    outputs = (TensorSpec("scaled", "FP32", [-1, 2]), TensorSpec("bits", "UINT8", [-1, 3, 1]))

    def predict(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], request: Request = NO_REQUEST
    ) -> Mapping[str, Array]:
        del outputs, request
        numbers, factors = inputs["number"], inputs["factor"]
        self.rows.append(len(numbers))
        bits = np.arange(3, dtype=np.uint8)[None, :, None] + factors[:, None, None].astype(np.uint8)
        # Of the layout of columns, and of no row: what a model gives is not always as it is sent.
        return {"scaled": np.asfortranarray(numbers * factors[:, None].astype(np.float32)), "bits": bits}


class Summing(Model):
    """Gives one row for all."""

    outputs = (TensorSpec("double", "FP32", [-1, 2]),)

    def predict(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], request: Request = NO_REQUEST
    ) -> Mapping[str, Array]:
        del outputs, request
        self.rows.append(len(inputs["number"]))
        return {"double": inputs["number"].sum(axis=0, keepdims=True)}


def asked(model: Any, rows: Sequence[int], raw: bool, spoilt: bool = False, **fields: Any) -> Inference:
    """A request with these numbers, in twos, and their texts."""
    numbers = np.array([[row, row + 0.5] for row in rows], np.float32).reshape(-1, 2)
    texts = np.empty(len(rows), np.object_)
    texts[:] = [str(row).encode() for row in rows]
    request = pb.ModelInferRequest(model_name="m", **fields)
    for name, datatype, tensor in (("number", "FP32", numbers), ("text", "BYTES", texts)):
        given_input = request.inputs.add(name=name, datatype=datatype, shape=tensor.shape)
        if raw:
            request.raw_input_contents.append(codec.encode_raw(tensor, datatype) + (b"!" if spoilt else b""))
        else:
            given_input.contents.CopyFrom(codec.encode_contents(tensor, datatype))
            if spoilt:
                given_input.contents.bool_contents.append(True)
    raws = take_raws(request)
    return Inference(request, raws, Form.of(request, raws, model))


def execute(model: Any, inferences: Sequence[Inference]) -> Sequence[Outcome]:
    execution = Execution(
        "m", "1", model, statistics=ModelStatistics(), metrics=Metrics(InFlight()), tracing=Tracing(None)
    )
    members = [Member(None, one.form.rows, 0, None, execution, None, one, NO_CALLER, 0) for one in inferences]
    return execution(members)


def answer_of(outcome: Outcome) -> pb.ModelInferResponse:
    assert isinstance(outcome, bytes)
    return pb.ModelInferResponse.FromString(outcome)


def numbers_of(outcome: Outcome) -> list[list[float]]:
    answer = answer_of(outcome)
    output = next(output for output in answer.outputs if output.name == "double")
    position = list(answer.outputs).index(output)
    if answer.raw_output_contents:
        flat = np.frombuffer(answer.raw_output_contents[position], np.float32)
    else:
        flat = np.array(output.contents.fp32_contents, np.float32)
    return [[float(cell) for cell in row] for row in flat.reshape(tuple(output.shape))]


MEMBERS = st.lists(
    st.tuples(st.lists(st.integers(-1, 50), max_size=4), st.booleans(), st.sampled_from([False, False, False, True])),
    min_size=1,
    max_size=8,
)


@given(MEMBERS)
def test_every_call_gets_its_own_rows_or_its_own_error(members: list[tuple[list[int], bool, bool]]) -> None:
    model = Model()
    outcomes = execute(model, [asked(model, rows, raw, spoilt) for rows, raw, spoilt in members])
    for (rows, raw, spoilt), outcome in zip(members, outcomes, strict=True):
        if spoilt:
            assert isinstance(outcome, InvalidTensorError)
        elif min(rows, default=0) < 0:
            assert isinstance(outcome, RuntimeError)
        else:
            assert numbers_of(outcome) == [[2.0 * row, 2.0 * row + 1] for row in rows]
            assert bool(answer_of(outcome).raw_output_contents) is raw


def scaling(model: Any, rows: Sequence[int], raw: bool, long_by: int, request_id: str) -> Inference:
    """A request of numbers alone; its raw data is too long by so many bytes."""
    numbers = np.array([[row, row + 0.5] for row in rows], np.float32).reshape(-1, 2)
    request = pb.ModelInferRequest(model_name="m", id=request_id)
    for name, datatype, tensor in (("number", "FP32", numbers), ("factor", "INT16", np.array(rows, np.int16))):
        given_input = request.inputs.add(name=name, datatype=datatype, shape=tensor.shape)
        if raw:
            request.raw_input_contents.append(codec.encode_raw(tensor, datatype) + b"!" * long_by)
        else:
            given_input.contents.CopyFrom(codec.encode_contents(tensor, datatype))
    raws = take_raws(request)
    return Inference(request, raws, Form.of(request, raws, model))


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 50), max_size=4),
            st.sampled_from([True, True, True, False]),
            st.sampled_from([0, 0, 0, 0, 1]),
            st.sampled_from(["", "seven", "\u00e4" * 70]),
        ),
        min_size=2,
        max_size=8,
    )
)
def test_an_answer_is_the_same_in_a_batch_and_alone(members: list[tuple[list[int], bool, int, str]]) -> None:
    model = Scaling()
    together = execute(model, [scaling(model, *member) for member in members])
    alone = [execute(model, [scaling(model, *member)])[0] for member in members]
    for (_, raw, long_by, request_id), outcome, expected in zip(members, together, alone, strict=True):
        if raw and long_by:
            assert isinstance(outcome, InvalidTensorError)
            assert isinstance(expected, InvalidTensorError)
        else:
            assert outcome == expected
            assert answer_of(outcome).id == request_id
            assert answer_of(outcome).SerializeToString() == outcome  # as protobuf itself writes it


def test_tensors_that_were_strung_together_are_read_only() -> None:
    tensors = stacked([scaling(Scaling(), rows, True, 0, "") for rows in ([1], [2, 3])])
    assert tensors is not None
    assert {name: (len(tensor), tensor.flags.writeable) for name, tensor in tensors.items()} == {
        "number": (3, False),
        "factor": (3, False),
    }


def test_calls_share_one_execution() -> None:
    model = Model()
    outcomes = execute(model, [asked(model, [1], True), asked(model, [2, 3], False), asked(model, [4], True, id="4")])
    assert model.rows == [4]
    assert answer_of(outcomes[2]).id == "4"


def test_a_model_that_fails_on_several_runs_for_each_once() -> None:
    model = Model()
    good, bad, other = execute(model, [asked(model, rows, True) for rows in ([1], [-1], [2])])
    assert model.rows == [3, 1, 1, 1]
    assert numbers_of(good) == [[2, 3]]
    assert isinstance(bad, RuntimeError)
    assert numbers_of(other) == [[4, 5]]


def test_a_call_that_fails_alone_is_not_run_again() -> None:
    model = Model()
    (outcome,) = execute(model, [asked(model, [-1], True)])
    assert isinstance(outcome, RuntimeError)
    assert model.rows == [1]


def test_a_model_that_does_not_keep_the_rows_apart_serves_each_call_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    model = Summing()
    outcomes = execute(model, [asked(model, [1, 2], True), asked(model, [3], True)])
    assert [numbers_of(outcome) for outcome in outcomes] == [[[3, 4]], [[3, 3.5]]]
    (record,) = caplog.records
    assert record.reason == str(  # type: ignore[attr-defined]
        ModelFailedError(
            "model 'm' returned output 'double' with shape [1, 2] for 3 rows; a model that is batched answers each row"
            " with one"
        )
    )


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (TensorSpec("number", "FP32", [7, 2]), True),
        (TensorSpec("number", "FP32", [7, 3]), False),
        (TensorSpec("figure", "FP32", [7, 2]), False),
    ],
)
def test_requests_are_alike_when_all_but_their_rows_is(other: TensorSpec, same: bool) -> None:
    class Asked(Model):
        def __init__(self, spec: TensorSpec) -> None:
            super().__init__()
            self.inputs = [spec]

    def signature(spec: TensorSpec) -> object:
        request = pb.ModelInferRequest(model_name="m")
        request.inputs.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
        return Form.of(request, [b""], Asked(spec)).signature

    assert (signature(TensorSpec("number", "FP32", [4, 2])) == signature(other)) is same


def test_requests_for_other_outputs_are_not_alike() -> None:
    model = Model()
    whole = asked(model, [1], True)
    part = asked(model, [1], True, outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="double")])
    assert whole.form.signature != part.form.signature

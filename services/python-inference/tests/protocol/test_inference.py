"""Requests held against a model's metadata, and answers in the form of the question."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from polyglot_inference.errors import InferenceError, InvalidRequestError, InvalidTensorError, UnsupportedError
from polyglot_inference.protocol.form import MOST_FORM_BYTES, MOST_FORMS, Form, Forms, take_raws
from polyglot_inference.protocol.inference import Inference
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.runtime.model import NO_REQUEST, Request
from polyglot_inference.tensors import Array, TensorSpec


class Sum:
    """a FP32[-1, 2] and b INT32[3] in, total FP32[-1] and half FP16[-1] out."""

    platform = "test"
    concurrency = 1
    stream = None
    wants_request = False
    inputs = (TensorSpec("a", "FP32", [-1, 2]), TensorSpec("b", "INT32", [3]))
    outputs = (TensorSpec("total", "FP32", [-1]), TensorSpec("half", "FP16", [-1]))

    def predict(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], _request: Request = NO_REQUEST
    ) -> dict[str, Array]:
        total = inputs["a"].sum(axis=1) + inputs["b"].sum()
        both = {"total": total.astype(np.float32), "half": (total / 2).astype(np.float16)}
        return {name: both[name] for name in outputs}


MODEL = Sum()
A = np.arange(8, dtype=np.float32).reshape(4, 2)
B = np.array([1, 2, 3], dtype=np.int32)
TOTAL = [7.0, 11.0, 15.0, 19.0]


def raw() -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="sum", id="seven", raw_input_contents=[A.tobytes(), B.tobytes()])
    request.inputs.add(name="a", datatype="FP32", shape=[4, 2])
    request.inputs.add(name="b", datatype="INT32", shape=[3])
    return request


def typed() -> pb.ModelInferRequest:
    request = raw()
    del request.raw_input_contents[:]
    request.inputs[0].contents.fp32_contents.extend(A.ravel().tolist())
    request.inputs[1].contents.int_contents.extend(B.tolist())
    return request


def asked(request: pb.ModelInferRequest) -> Inference:
    raws = take_raws(request)
    return Inference(request, raws, Form.of(request, raws, MODEL))


def form_of(forms: Forms, request: pb.ModelInferRequest) -> Form:
    return forms.of(request, take_raws(request))


def answer(request: pb.ModelInferRequest) -> pb.ModelInferResponse:
    inference = asked(request)
    results = MODEL.predict(inference.tensors(), inference.form.output_names)
    return pb.ModelInferResponse.FromString(inference.response(results, "1"))


def test_a_raw_request_gets_a_raw_answer_with_its_id() -> None:
    response = answer(raw())
    assert (response.model_name, response.model_version, response.id) == ("sum", "1", "seven")
    assert [(output.name, output.datatype, list(output.shape)) for output in response.outputs] == [
        ("total", "FP32", [4]),
        ("half", "FP16", [4]),
    ]
    assert not any(output.HasField("contents") for output in response.outputs)
    assert np.frombuffer(response.raw_output_contents[0], np.float32).tolist() == TOTAL
    assert np.frombuffer(response.raw_output_contents[1], np.float16).tolist() == [total / 2 for total in TOTAL]


def test_a_typed_request_gets_a_typed_answer() -> None:
    request = typed()
    request.outputs.add(name="total")
    response = answer(request)
    assert list(response.outputs[0].contents.fp32_contents) == TOTAL
    assert not response.raw_output_contents


def test_a_typed_request_gets_a_raw_answer_where_an_output_has_no_typed_form() -> None:
    response = answer(typed())
    assert len(response.raw_output_contents) == 2
    assert not any(output.HasField("contents") for output in response.outputs)


def test_only_the_requested_outputs_are_given_in_the_order_asked() -> None:
    request = raw()
    request.outputs.add(name="half")
    request.outputs.add(name="total")
    assert [output.name for output in answer(request).outputs] == ["half", "total"]


def test_inputs_may_come_in_any_order() -> None:
    request = raw()
    swapped = pb.ModelInferRequest(inputs=reversed(request.inputs), raw_input_contents=[B.tobytes(), A.tobytes()])
    assert np.frombuffer(answer(swapped).raw_output_contents[0], np.float32).tolist() == TOTAL


def test_rows_are_the_variable_first_dimension() -> None:
    assert asked(raw()).form.rows == 4


def test_outputs_of_a_foreign_memory_layout_are_written_row_major() -> None:
    inference = asked(raw())
    transposed = np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3))
    answer = inference.response({"total": transposed, "half": np.zeros(1, np.float16)}, "1")
    response = pb.ModelInferResponse.FromString(answer)
    assert np.frombuffer(response.raw_output_contents[0], "<f4").tolist() == [0, 1, 2, 3, 4, 5]


Spoil = Callable[[pb.ModelInferRequest], object]


def rename_input(request: pb.ModelInferRequest) -> None:
    request.inputs[0].name = "c"


def double_input(request: pb.ModelInferRequest) -> None:
    request.inputs[1].CopyFrom(request.inputs[0])


def drop_input(request: pb.ModelInferRequest) -> None:
    del request.inputs[1]
    del request.raw_input_contents[1]


def change_datatype(request: pb.ModelInferRequest) -> None:
    request.inputs[0].datatype = "FP64"


def invent_datatype(request: pb.ModelInferRequest) -> None:
    request.inputs[0].datatype = "FP8"


def change_rank(request: pb.ModelInferRequest) -> None:
    request.inputs[0].shape[:] = [8]


def change_size(request: pb.ModelInferRequest) -> None:
    request.inputs[1].shape[:] = [4]


def drop_blob(request: pb.ModelInferRequest) -> None:
    del request.raw_input_contents[1]


def shorten_blob(request: pb.ModelInferRequest) -> None:
    request.raw_input_contents[0] = b"\0" * 31


def add_contents(request: pb.ModelInferRequest) -> None:
    request.inputs[1].contents.int_contents.extend([1, 2, 3])


def ask_unknown_output(request: pb.ModelInferRequest) -> None:
    request.outputs.add(name="sum")


def ask_output_twice(request: pb.ModelInferRequest) -> None:
    request.outputs.add(name="half")
    request.outputs.add(name="half")


def use_shared_memory(request: pb.ModelInferRequest) -> None:
    request.inputs[0].parameters["shared_memory_region"].string_param = "region"


def ask_classification(request: pb.ModelInferRequest) -> None:
    request.outputs.add(name="total").parameters["classification"].int64_param = 3


def start_sequence(request: pb.ModelInferRequest) -> None:
    request.parameters["sequence_id"].int64_param = 7


@pytest.mark.parametrize(
    ("spoil", "error", "complaint"),
    [
        (rename_input, InvalidTensorError, "input 'c' is unknown; the model has a, b"),
        (double_input, InvalidTensorError, "input 'a' is given 2 times"),
        (drop_input, InvalidTensorError, "input 'b' is missing; the model needs a, b"),
        (change_datatype, InvalidTensorError, "input 'a' has datatype 'FP64', the model expects 'FP32'"),
        (invent_datatype, InvalidTensorError, "datatype 'FP8', the model expects 'FP32'; the datatype sent is not"),
        (change_rank, InvalidTensorError, "input 'a' has shape [8], the model expects [-1, 2]"),
        (change_size, InvalidTensorError, "input 'b' has shape [4], the model expects [3]"),
        (drop_blob, InvalidRequestError, "raw_input_contents has 1 entries for 2 inputs"),
        (shorten_blob, InvalidTensorError, "input 'a': 31 bytes of raw data, but shape [4, 2] of FP32 needs 32"),
        (add_contents, InvalidTensorError, "input 'b' has contents while raw_input_contents is used"),
        (ask_unknown_output, InvalidTensorError, "output 'sum' is unknown; the model has total, half"),
        (ask_output_twice, InvalidTensorError, "output 'half' is given 2 times"),
        (
            use_shared_memory,
            UnsupportedError,
            "input 'a': system shared memory is off",
        ),
        (ask_classification, UnsupportedError, "output 'total': parameter classification is not supported"),
        (start_sequence, UnsupportedError, "request: parameter sequence_id is not supported"),
    ],
)
def test_a_wrong_request_is_refused_with_the_reason(spoil: Spoil, error: type[InferenceError], complaint: str) -> None:
    request = raw()
    spoil(request)
    with pytest.raises(error) as caught:
        answer(request)
    assert complaint in caught.value.message


def test_a_form_is_checked_once_whatever_the_data_and_the_name() -> None:
    forms, request = Forms(MODEL), raw()
    form = form_of(forms, request)
    assert request.id == "seven"
    again, other = raw(), raw()
    again.id = "eight"
    again.raw_input_contents[0] = bytes(32)
    assert form_of(forms, again) is form
    other.inputs[0].shape[0] = 3
    assert form_of(forms, other) is not form


def test_a_parameter_makes_a_form_of_its_own() -> None:
    forms, patient = Forms(MODEL), raw()
    patient.parameters["timeout"].int64_param = 5
    assert [form_of(forms, request).timeout_seconds for request in (raw(), patient, raw())] == [None, 5e-6, None]
    assert len(forms) == 2


def test_a_known_form_does_not_pass_for_one_with_an_entry_too_few() -> None:
    forms, short = Forms(MODEL), raw()
    form_of(forms, raw())
    drop_blob(short)
    with pytest.raises(InvalidRequestError, match="raw_input_contents has 1 entries for 2 inputs"):
        form_of(forms, short)


def make_typed(request: pb.ModelInferRequest) -> None:
    request.CopyFrom(typed())


def add_long_parameter(request: pb.ModelInferRequest) -> None:
    request.inputs[0].parameters["note"].string_param = "x" * MOST_FORM_BYTES


@pytest.mark.parametrize("change", [make_typed, add_long_parameter])
def test_a_form_that_others_will_hardly_share_is_not_remembered(change: Spoil) -> None:
    forms, request = Forms(MODEL), raw()
    change(request)
    assert form_of(forms, request).rows == 4
    assert len(forms) == 0


def test_only_so_many_forms_are_remembered() -> None:
    forms, request = Forms(MODEL), raw()
    raws = take_raws(request)
    for rows in range(MOST_FORMS + 2):
        request.inputs[0].shape[0] = rows
        assert forms.of(request, raws).rows == rows
        assert len(forms) <= MOST_FORMS
    assert forms.of(request, raws) is forms.of(request, raws)


def test_an_answer_of_other_shapes_than_the_last_one_has_its_own() -> None:
    inference = asked(raw())
    for size in (2, 3, 3):
        total, half = np.full(size, size, np.float32), np.zeros(1, np.float16)
        response = pb.ModelInferResponse.FromString(inference.response({"total": total, "half": half}, "1"))
        assert (response.id, [list(output.shape) for output in response.outputs]) == ("seven", [[size], [1]])
        assert list(response.raw_output_contents) == [total.tobytes(), half.tobytes()]

"""Items 3 to 6 and 12: every datatype in every form, BYTES, nested JSON, mixed forms, large messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
from tritonclient.grpc import service_pb2

from tests.conformance.clients import Rest, Stub, Triton, text
from tests.conformance.models.definitions import NUMERIC
from tests.conformance.suite import AIO_HTTP, ALL, CALLS, HTTP, REST, STUB, check, equal, refused
from tests.conformance.targets import MAX_MESSAGE_BYTES

NO_JSON = ("FP16",)
CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "UINT64": "uint64_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
AWKWARD = (b"", b"a\x00b", "größer 🙂".encode(), b"\xff\xfe not UTF-8", b"x" * 300)
AWKWARD_TEXT = ("", "a\x00b", "größer 🙂", 'quote " and \\ and \n', "x" * 300)


def _extremes(datatype: str, *, finite: bool = False) -> Any:
    """Return a [2, 3] tensor with what is easily lost on the way: bounds, signs, the last bit."""
    dtype: Any = np.dtype(NUMERIC[datatype])
    if datatype == "BOOL":
        return np.array([[True, False, True], [False, False, True]])
    if dtype.kind in "iu":
        bounds: Any = np.iinfo(dtype)
        return np.array([[bounds.min, bounds.max, 0], [1, bounds.max - 1, bounds.min + 1]], dtype=dtype)
    limits = np.finfo(dtype)
    odd = [0.1, -0.0] if finite else [np.nan, -np.inf]
    return np.array([[limits.min, limits.max, limits.tiny], [1 / 3, *odd]], dtype=dtype)


def _round_trips(client: Triton, datatypes: Iterable[str], *, binary: bool) -> None:
    """Send each datatype to its identity and assert that every bit comes back."""
    failures = []
    for datatype in datatypes:
        sent = _extremes(datatype, finite=not binary)
        try:
            answer = client.infer(
                f"identity-{datatype.lower()}",
                [client.tensor("x", sent, binary=binary)],
                outputs=[client.output("y", binary=binary)],
            ).as_numpy("y")
            equal((answer.dtype, answer.shape), (sent.dtype, sent.shape), "the tensor")
            assert answer.tobytes() == sent.tobytes(), f"{sent.tolist()} came back as {answer.tolist()}"
        except Exception as error:  # noqa: BLE001 - reported below, with all other datatypes that fail
            failures.append((datatype, error))
    _report(failures)


def _report(failures: list[tuple[str, Exception]]) -> None:
    if failures:
        names = ", ".join(datatype for datatype, _ in failures)
        raise AssertionError(f"{names}: {failures[0][1]}")


@check(3, "every numeric datatype as JSON, exact to the last bit", [HTTP])
def datatypes_json(client: Triton) -> None:
    _round_trips(client, (name for name in NUMERIC if name not in NO_JSON), binary=False)


@check(3, "every numeric datatype in the binary extension or in raw contents, NaN and infinity too", CALLS)
def datatypes_binary(client: Triton) -> None:
    _round_trips(client, NUMERIC, binary=True)


@check(3, "every numeric datatype in typed contents", [STUB])
def datatypes_typed(client: Stub) -> None:
    failures = []
    for datatype in NUMERIC:
        if datatype in NO_JSON:
            continue
        sent = _extremes(datatype)
        try:
            request = service_pb2.ModelInferRequest(model_name=f"identity-{datatype.lower()}")
            tensor = request.inputs.add(name="x", datatype=datatype, shape=sent.shape)
            getattr(tensor.contents, CONTENTS[datatype]).extend(sent.ravel().tolist())
            received = _received(client.ModelInfer(request), NUMERIC[datatype])
            assert received.tobytes() == sent.tobytes(), f"{sent.ravel().tolist()} came back as {received.tolist()}"
        except Exception as error:  # noqa: BLE001 - reported below, with all other datatypes that fail
            failures.append((datatype, error))
    _report(failures)


def _received(response: Any, dtype: Any) -> Any:
    """Return the only output's elements: a server may answer raw or typed."""
    if response.raw_output_contents:
        return np.frombuffer(response.raw_output_contents[0], dtype=dtype)
    return np.array(getattr(response.outputs[0].contents, CONTENTS[response.outputs[0].datatype]), dtype=dtype)


@check(3, "BF16 in the binary extension or in raw contents", CALLS)
def bf16(client: Triton) -> None:
    sent = np.array([[1.5, -2.0, 3.0e38]], dtype=ml_dtypes.bfloat16)
    answer = client.infer("identity-bf16", [client.tensor("x", sent, datatype="BF16")]).as_numpy("y")
    np.testing.assert_array_equal(answer.astype(np.float32), sent.astype(np.float32))


@check(3, "FP16 has no JSON form and is refused", [REST])
def fp16_json(client: Rest) -> None:
    with refused(400):
        client.infer("identity-fp16", ("x", "FP16", [1, 2], [0.5, 1.0]))


@check(3, "FP16 has no typed contents and is refused", [STUB])
def fp16_typed(client: Stub) -> None:
    request = service_pb2.ModelInferRequest(model_name="identity-fp16")
    request.inputs.add(name="x", datatype="FP16", shape=[1, 1]).contents.fp32_contents.append(0.5)
    with refused(400):
        client.ModelInfer(request)


@check(4, "NUL, UTF-8, bytes that are no UTF-8 and empty elements, in the binary extension or raw", CALLS)
def bytes_binary(client: Triton) -> None:
    answer = client.infer("identity-bytes", [client.tensor("x", text(*AWKWARD))]).as_numpy("y")
    equal(answer.tolist(), list(AWKWARD), "the tensor")


@check(4, "NUL, UTF-8, escapes and empty elements as JSON", [REST])
def bytes_json(client: Rest) -> None:
    answer = client.infer("identity-bytes", ("x", "BYTES", [len(AWKWARD_TEXT)], AWKWARD_TEXT))
    equal(answer["outputs"][0]["data"], list(AWKWARD_TEXT), "the tensor")


@check(4, "BYTES in typed contents", [STUB])
def bytes_typed(client: Stub) -> None:
    request = service_pb2.ModelInferRequest(model_name="identity-bytes")
    tensor = request.inputs.add(name="x", datatype="BYTES", shape=[len(AWKWARD)])
    tensor.contents.bytes_contents.extend(AWKWARD)
    response = client.ModelInfer(request)
    if response.raw_output_contents:
        found = list(_split(response.raw_output_contents[0]))
    else:
        found = list(response.outputs[0].contents.bytes_contents)
    equal(found, list(AWKWARD), "the tensor")


def _split(raw: bytes) -> Iterator[bytes]:
    """Yield the elements of a raw BYTES tensor."""
    while raw:
        end = 4 + int.from_bytes(raw[:4], "little")
        yield raw[4:end]
        raw = raw[end:]


@check(4, "a tensor without elements comes back as one", ALL)
def no_elements(client: Triton) -> None:
    empty = client.infer("identity-bytes", [client.tensor("x", text(), datatype="BYTES")]).as_numpy("y")
    equal(empty.shape, (0,), "the shape of BYTES")
    sent = np.zeros((0, 3), dtype=np.float32)
    equal(client.infer("identity-fp32", [client.tensor("x", sent)]).as_numpy("y").shape, (0, 3), "the shape of FP32")


@check(4, "a tensor without elements comes back as one, as JSON", [REST])
def no_elements_json(client: Rest) -> None:
    output = client.infer("identity-fp32", ("x", "FP32", [0, 3], []))["outputs"][0]
    equal((output["shape"], output["data"]), ([0, 3], []), "the tensor")


@check(5, "nested and flat data mean the same", [REST])
def nested_json(client: Rest) -> None:
    flat = client.infer("identity-int32", ("x", "INT32", [2, 2], [1, 2, 3, 4]))
    nested = client.infer("identity-int32", ("x", "INT32", [2, 2], [[1, 2], [3, 4]]))
    equal(nested["outputs"], flat["outputs"], "the outputs")
    equal(np.ravel(flat["outputs"][0]["data"]).tolist(), [1, 2, 3, 4], "the data")


@check(5, "nested data of another shape than declared are refused", [REST])
def ragged_json(client: Rest) -> None:
    with refused(400):
        client.infer("identity-int32", ("x", "INT32", [2, 2], [[1, 2], [3]]))


@check(6, "one binary and one JSON input; one binary and one JSON output", [HTTP, AIO_HTTP])
def mixed_forms(client: Triton) -> None:
    a, b = np.full((1, 4), 5, dtype=np.int32), np.arange(4, dtype=np.int32).reshape(1, 4)
    answer = client.infer(
        "arithmetic",
        [client.tensor("a", a, binary=True), client.tensor("b", b, binary=False)],
        outputs=[client.output("sum", binary=False), client.output("difference", binary=True)],
    )
    np.testing.assert_array_equal(answer.as_numpy("sum"), a + b)
    np.testing.assert_array_equal(answer.as_numpy("difference"), a - b)
    forms = ["data" in output for output in sorted(answer.get_response()["outputs"], key=lambda o: o["name"])]
    equal(forms, [False, True], "which of difference and sum is JSON")


@check(6, "JSON input, binary output", [HTTP])
def json_to_binary(client: Triton) -> None:
    sent = np.arange(4, dtype=np.float32).reshape(1, 4)
    answer = client.infer("identity-fp32", [client.tensor("x", sent, binary=False)])
    np.testing.assert_array_equal(answer.as_numpy("y"), sent)
    assert "data" not in answer.get_response()["outputs"][0], "the output is JSON, but binary was asked for"


@check(6, "one typed and one raw input in one request is refused", [STUB])
def typed_and_raw(client: Stub) -> None:
    request = service_pb2.ModelInferRequest(model_name="arithmetic", raw_input_contents=[bytes(16)])
    request.inputs.add(name="a", datatype="INT32", shape=[1, 4])
    request.inputs.add(name="b", datatype="INT32", shape=[1, 4]).contents.int_contents.extend([1, 2, 3, 4])
    with refused(400):
        client.ModelInfer(request)


@check(12, "a tensor of 8 MiB passes in both directions", CALLS)
def large_tensor(client: Triton) -> None:
    sent = np.arange(2 << 20, dtype=np.int32).reshape(1, -1)
    answer = client.infer("identity-int32", [client.tensor("x", sent)]).as_numpy("y")
    np.testing.assert_array_equal(answer, sent)


@check(12, "a message over the limit is refused as too large", CALLS)
def over_the_limit(client: Triton) -> None:
    sent = np.zeros((1, MAX_MESSAGE_BYTES + 1024), dtype=np.uint8)
    with refused(413):
        client.infer("identity-uint8", [client.tensor("x", sent)])
    equal(client.is_server_live(), True, "live afterwards")


@check(12, "a JSON body over the limit is refused as too large", [REST])
def body_over_the_limit(client: Rest) -> None:
    with refused(413):
        client.json("/v2/models/identity-fp32/infer", b" " * (MAX_MESSAGE_BYTES + 1))

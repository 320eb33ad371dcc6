"""Items 7, 8 and 11: which outputs, wrong requests, compression."""

from __future__ import annotations

import gzip
import json
import zlib

import numpy as np
from tritonclient.grpc import service_pb2

from tests.conformance.clients import Rest, Stub, Triton, request_of, text
from tests.conformance.suite import AIO_GRPC, AIO_HTTP, ALL, GRPC, HTTP, REST, STUB, check, equal, refused


def _names(client: Triton, answer: object) -> list[str]:
    response = answer.get_response()  # type: ignore[attr-defined]
    return [output["name"] for output in response["outputs"]] if client.http else [o.name for o in response.outputs]


@check(7, "without a choice all outputs come", ALL)
def all_outputs(client: Triton) -> None:
    answer = client.infer("arithmetic", client.numbers())
    equal(sorted(_names(client, answer)), ["difference", "sum"], "outputs")


@check(7, "only the chosen output comes", ALL)
def chosen_output(client: Triton) -> None:
    answer = client.infer("arithmetic", client.numbers(), outputs=[client.output("difference")])
    equal(_names(client, answer), ["difference"], "outputs")
    np.testing.assert_array_equal(answer.as_numpy("difference").ravel(), np.arange(-1, 7))


@check(7, "an unknown output is refused", ALL)
def unknown_output(client: Triton) -> None:
    with refused(400, naming="'product'"):
        client.infer("arithmetic", client.numbers(), outputs=[client.output("product")])


@check(8, "a shape that the model does not take is refused", ALL)
def wrong_shape(client: Triton) -> None:
    with refused(400, naming="'a'"):
        client.infer("arithmetic", [client.tensor("a", np.ones((2, 3), np.int32)), client.numbers()[1]])


@check(8, "another number of dimensions is refused", ALL)
def wrong_rank(client: Triton) -> None:
    with refused(400, naming="'a'"):
        client.infer("arithmetic", [client.tensor("a", np.ones((2, 4, 1), np.int32)), client.numbers()[1]])


@check(8, "another datatype is refused", ALL)
def wrong_datatype(client: Triton) -> None:
    with refused(400, naming="'a'"):
        client.infer("arithmetic", [client.tensor("a", np.ones((2, 4), np.int64)), client.numbers()[1]])


@check(8, "a missing input is refused, and named", ALL)
def missing_input(client: Triton) -> None:
    with refused(400, naming="'b'"):
        client.infer("arithmetic", client.numbers()[:1])


@check(8, "an unknown input is refused, and named", ALL)
def unknown_input(client: Triton) -> None:
    with refused(400, naming="'other'"):
        client.infer("arithmetic", [*client.numbers(), client.tensor("other", np.ones((1, 4), np.int32))])


@check(8, "an input given twice is refused", ALL)
def repeated_input(client: Triton) -> None:
    with refused(400):
        client.infer("arithmetic", [*client.numbers(), client.numbers()[0]])


@check(8, "more or fewer elements than the shape needs are refused", [REST])
def wrong_count(client: Rest) -> None:
    for data in ([1.0, 2.0], [1.0, 2.0, 3.0, 4.0, 5.0]):
        with refused(400):
            client.infer("identity-fp32", ("x", "FP32", [1, 4], data))


@check(8, "numbers outside of the datatype, and text for numbers, are refused", [REST])
def out_of_range(client: Rest) -> None:
    for datatype, value in (("INT8", 200), ("UINT8", -1), ("INT32", "7")):
        with refused(400):
            client.infer(f"identity-{datatype.lower()}", ("x", datatype, [1, 1], [value]))


@check(8, "a negative dimension in a request is refused", [REST])
def negative_dimension(client: Rest) -> None:
    with refused(400):
        client.infer("identity-fp32", ("x", "FP32", [-1, 4], [1.0, 2.0, 3.0, 4.0]))


@check(8, "JSON that is no request is refused: an array, no inputs, a wrong type, a truncated body", [REST])
def malformed_json(client: Rest) -> None:
    for body in (b"[]", b"{}", b'{"inputs": 7}', b'{"inputs": [{"name": 5}]}', b'{"inputs": [', b""):
        with refused(400):
            client.json("/v2/models/identity-fp32/infer", body)


@check(8, "another number of raw contents than inputs is refused", [STUB])
def raw_count(client: Stub) -> None:
    request = service_pb2.ModelInferRequest(model_name="identity-fp32", raw_input_contents=[bytes(4), bytes(4)])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 1])
    with refused(400):
        client.ModelInfer(request)


@check(8, "raw contents of another size than the shape needs are refused", [STUB])
def raw_size(client: Stub) -> None:
    for size in (0, 15, 17):
        request = service_pb2.ModelInferRequest(model_name="identity-fp32", raw_input_contents=[bytes(size)])
        request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
        with refused(400):
            client.ModelInfer(request)


@check(8, "raw BYTES whose lengths point past the end are refused", [STUB])
def raw_bytes(client: Stub) -> None:
    for raw in (b"\x05\x00\x00\x00abc", b"\x01\x00", b"\xff\xff\xff\xffa"):
        request = service_pb2.ModelInferRequest(model_name="identity-bytes", raw_input_contents=[raw])
        request.inputs.add(name="x", datatype="BYTES", shape=[1])
        with refused(400):
            client.ModelInfer(request)


@check(8, "raw and typed contents of one input is refused", [STUB])
def both_contents(client: Stub) -> None:
    request = service_pb2.ModelInferRequest(model_name="identity-fp32", raw_input_contents=[bytes(4)])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 1]).contents.fp32_contents.append(1)
    with refused(400):
        client.ModelInfer(request)


@check(8, "typed contents in another datatype's field are refused", [STUB])
def foreign_contents(client: Stub) -> None:
    request = service_pb2.ModelInferRequest(model_name="identity-fp32")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 1]).contents.int_contents.append(1)
    with refused(400):
        client.ModelInfer(request)


@check(8, "a model that raises is the server's error, with the model's text", ALL)
def failing_model(client: Triton) -> None:
    with refused(500, naming="told to fail"):
        client.infer("text", [client.tensor("text_input", text("fail"))])


def _compressed(client: Triton, *, binary: bool, **algorithms: str) -> None:
    sent = np.arange(1024, dtype=np.float32).reshape(1, -1)
    answer = client.infer(
        "identity-fp32",
        [client.tensor("x", sent, binary=binary)],
        outputs=[client.output("y", binary=binary)],
        **algorithms,
    )
    np.testing.assert_array_equal(answer.as_numpy("y"), sent)


@check(11, "JSON requests compressed by gzip and deflate", [HTTP, AIO_HTTP])
def compressed_json(client: Triton) -> None:
    for algorithm in ("gzip", "deflate"):
        _compressed(client, binary=False, request_compression_algorithm=algorithm)


@check(11, "binary requests compressed by gzip and deflate", [HTTP, AIO_HTTP])
def compressed_binary(client: Triton) -> None:
    for algorithm in ("gzip", "deflate"):
        _compressed(client, binary=True, request_compression_algorithm=algorithm)


@check(11, "responses compressed by gzip and deflate where the caller accepts it", [REST])
def compressed_response(client: Rest) -> None:
    body = request_of(("x", "FP32", [1, 1024], list(range(1024))))
    for algorithm, wbits in (("gzip", 31), ("deflate", 15)):
        reply = client.call("/v2/models/identity-fp32/infer", body, headers={"Accept-Encoding": algorithm})
        equal(reply.status, 200, "status")
        equal(reply.headers.get("content-encoding"), algorithm, "Content-Encoding")
        equal(json.loads(zlib.decompress(reply.body, wbits))["outputs"][0]["shape"], [1, 1024], "shape")


@check(11, "binary responses compressed by gzip and deflate", [HTTP, AIO_HTTP])
def compressed_binary_response(client: Triton) -> None:
    for algorithm in ("gzip", "deflate"):
        _compressed(client, binary=True, response_compression_algorithm=algorithm)


@check(11, "a body that is not what its Content-Encoding says is refused", [REST])
def corrupt_compression(client: Rest) -> None:
    body = json.dumps(request_of(("x", "FP32", [1, 1], [1.0]))).encode()
    for sent in (body, gzip.compress(body)[:-12]):
        reply = client.call("/v2/models/identity-fp32/infer", sent, headers={"Content-Encoding": "gzip"})
        equal(reply.status, 400, "status")


@check(11, "gRPC messages compressed by gzip and deflate", [GRPC, AIO_GRPC])
def compressed_grpc(client: Triton) -> None:
    for algorithm in ("gzip", "deflate"):
        _compressed(client, binary=True, compression_algorithm=algorithm)

"""The request as bytes, for each protocol that a server speaks, and how its answer is read."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.rivals.workloads import Arrays, Workload
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb

REST, BINARY, GRPC, STREAM = "REST JSON", "REST binary", "gRPC", "gRPC stream"
#: Messages of one call of ModelStreamInfer, in both directions.
STREAM_MESSAGES = 100

_DTYPES = {"FP32": "<f4", "INT64": "<i8"}
_DATATYPES = {np.dtype(dtype): datatype for datatype, dtype in _DTYPES.items()}
_GRPC_HEADERS = {"content-type": "application/grpc", "te": "trailers"}
_INFER = "/inference.GRPCInferenceService/ModelInfer"


@dataclass(frozen=True)
class Request:
    """One request. A gRPC body is framed; `read` turns the answer's body (and REST headers) into arrays."""

    protocol: str
    path: str
    body: bytes
    read: Callable[[bytes, Mapping[str, str]], Arrays]
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Requests of the model in one call.
    messages: int = 1

    @property
    def http2(self) -> bool:
        """Whether it is a gRPC call."""
        return self.protocol in (GRPC, STREAM)


@dataclass(frozen=True)
class Wire:
    """A format of requests and answers."""

    protocol: str
    request: Callable[[Workload], Request]


def _oip_json(workload: Workload) -> Request:
    """Return the Open Inference Protocol's JSON."""
    tensors = [{**_head(name, array), "data": _numbers(array)} for name, array in workload.inputs.items()]

    def read(body: bytes, _headers: Mapping[str, str]) -> Arrays:
        outputs = json.loads(body)["outputs"]
        return {
            each["name"]: np.array(each["data"], _DTYPES[each["datatype"]]).reshape(each["shape"]) for each in outputs
        }

    body = json.dumps({"inputs": tensors}, separators=(",", ":")).encode()
    return Request(REST, _infer_path(workload), body, read, {"content-type": "application/json"})


def _oip_binary(workload: Workload) -> Request:
    """Return JSON with binary tensors, both ways (Triton's extension)."""
    tensors = [
        {**_head(name, array), "parameters": {"binary_data_size": array.nbytes}}
        for name, array in workload.inputs.items()
    ]
    head = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}}).encode()
    blobs = b"".join(array.tobytes() for array in workload.inputs.values())

    def read(body: bytes, headers: Mapping[str, str]) -> Arrays:
        size = int(headers["inference-header-content-length"])
        at, arrays = size, {}
        for each in json.loads(body[:size])["outputs"]:
            end = at + each["parameters"]["binary_data_size"]
            arrays[each["name"]] = np.frombuffer(body[at:end], _DTYPES[each["datatype"]]).reshape(each["shape"])
            at = end
        return arrays

    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
    return Request(BINARY, _infer_path(workload), head + blobs, read, headers)


def _oip_grpc(workload: Workload) -> Request:
    """Return a unary call with raw tensors."""

    def read(body: bytes, _headers: Mapping[str, str]) -> Arrays:
        (message,) = frames(body)
        return _raw_outputs(pb.ModelInferResponse.FromString(message))

    return Request(GRPC, _INFER, frame(_message(workload)), read, _GRPC_HEADERS)


def _oip_stream(workload: Workload) -> Request:
    """Return a call of ModelStreamInfer with many requests, of which each is answered once."""

    def read(body: bytes, _headers: Mapping[str, str]) -> Arrays:
        answers = [pb.ModelStreamInferResponse.FromString(message) for message in frames(body)]
        failed = [answer.error_message for answer in answers if answer.error_message]
        if failed or len(answers) != STREAM_MESSAGES:
            raise ValueError(f"{len(answers)} answers to {STREAM_MESSAGES} requests, of which errors: {failed}")
        return _raw_outputs(answers[-1].infer_response)

    path = "/inference.GRPCInferenceService/ModelStreamInfer"
    body = frame(_message(workload)) * STREAM_MESSAGES
    return Request(STREAM, path, body, read, _GRPC_HEADERS, STREAM_MESSAGES)


def own_json(key: str, answer: str | None) -> Wire:
    """Return the wire of a server whose JSON is its author's: one array by `key`, one back, bare or by `answer`."""

    def request(workload: Workload) -> Request:
        (array,) = workload.inputs.values()
        # As nested lists and with the numbers of the other formats.
        rows = np.array(_numbers(array), dtype=object).reshape(array.shape).tolist()
        output, expected = list(workload.answer.items())[-1]

        def read(body: bytes, _headers: Mapping[str, str]) -> Arrays:
            decoded = json.loads(body)
            return {output: np.array(decoded[answer] if answer else decoded, dtype=expected.dtype)}

        body = json.dumps({key: rows}, separators=(",", ":")).encode()
        return Request(REST, "/predict", body, read, {"content-type": "application/json"})

    return Wire(REST, request)


OIP_JSON, OIP_BINARY = Wire(REST, _oip_json), Wire(BINARY, _oip_binary)
OIP_GRPC, OIP_STREAM = Wire(GRPC, _oip_grpc), Wire(STREAM, _oip_stream)


def frame(message: bytes) -> bytes:
    """Return a message as gRPC sends it, uncompressed."""
    return struct.pack(">BI", 0, len(message)) + message


def frames(body: bytes) -> list[bytes]:
    """Return the messages of a gRPC body."""
    at, messages = 0, []
    while at < len(body):
        compressed, size = struct.unpack_from(">BI", body, at)
        if compressed:
            raise ValueError("a compressed message, which was not asked for")
        messages.append(body[at + 5 : at + 5 + size])
        at += 5 + size
    return messages


def _message(workload: Workload) -> bytes:
    tensors = [
        pb.ModelInferRequest.InferInputTensor(name=name, shape=array.shape, datatype=_DATATYPES[array.dtype])
        for name, array in workload.inputs.items()
    ]
    raw = [array.tobytes() for array in workload.inputs.values()]
    message = pb.ModelInferRequest(model_name=workload.model, inputs=tensors, raw_input_contents=raw)
    return message.SerializeToString()


def _raw_outputs(response: Any) -> Arrays:
    return {
        tensor.name: np.frombuffer(raw, _DTYPES[tensor.datatype]).reshape(tuple(tensor.shape))
        for tensor, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    }


def _head(name: str, array: Any) -> dict[str, Any]:
    return {"name": name, "shape": list(array.shape), "datatype": _DATATYPES[array.dtype]}


def _numbers(array: Any) -> list[float]:
    # The shortest text that gives the same FP32 again, as clients in other languages write it.
    return [float(str(number)) for number in array.ravel()]


def _infer_path(workload: Workload) -> str:
    return f"/v2/models/{workload.model}/infer"

"""One measurement: right answers first, then bounded load and the CPU time that it took."""

import contextlib
import http
import http.client
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import grpc
import numpy as np

from bench.command import BenchError, run
from polyglot_inference.protocol.pb import grpc_service_pb2, grpc_service_pb2_grpc

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples" / "digits"
PATHS = {"rest": "/v2/models/digits/infer", "grpc": "/inference.GRPCInferenceService/ModelInfer"}
#: Unmeasured load before each measurement, in which connections, allocators and caches settle.
WARM_UP_SECONDS = 2


class System(Protocol):
    """What is measured: its name, where load goes, and how much CPU it has used."""

    @property
    def case(self) -> str:
        """Name of the case in the table."""

    @property
    def targets(self) -> Mapping[str, str]:
        """Host and port by protocol, `rest` and `grpc`."""

    def cpu_seconds(self) -> dict[str, float]:
        """CPU time of each process from its start until now."""


@dataclass(frozen=True)
class Measurement:
    """One row of the table; `cpu` is in microseconds per request, by process."""

    case: str
    protocol: str
    clients: int
    load: dict[str, Any]
    cpu: dict[str, float]


@dataclass(frozen=True)
class Digit:
    """A handwritten digit that training never saw, as the body of both protocols."""

    pixels: list[float]
    label: int

    @classmethod
    def first(cls) -> Self:
        """Return the first digit of the example."""
        held_out = json.loads((DIGITS / "held_out.json").read_text())[0]
        return cls(pixels=held_out["pixels"], label=held_out["label"])

    def json(self) -> bytes:
        """Return the REST body."""
        tensor = {"name": "x", "shape": [1, 64], "datatype": "FP32", "data": self.pixels}
        return json.dumps({"inputs": [tensor]}).encode()

    def message(self) -> grpc_service_pb2.ModelInferRequest:
        """Return the gRPC message, its tensor in raw form as clients of this protocol send it."""
        tensor = grpc_service_pb2.ModelInferRequest.InferInputTensor(name="x", shape=[1, 64], datatype="FP32")
        raw = np.asarray(self.pixels, dtype="<f4").tobytes()
        return grpc_service_pb2.ModelInferRequest(model_name="digits", inputs=[tensor], raw_input_contents=[raw])


class LoadGenerator:
    """The built load generator, with the digit's bodies in files."""

    def __init__(self, folder: Path, digit: Digit) -> None:
        self._binary = folder / "loadgen"
        run("go", "build", "-C", str(ROOT / "bench" / "loadgen"), "-o", str(self._binary), ".")
        self._bodies = {"rest": folder / "body.json", "grpc": folder / "body.pb"}
        self._bodies["rest"].write_bytes(digit.json())
        self._bodies["grpc"].write_bytes(digit.message().SerializeToString())

    def send(self, target: str, protocol: str, clients: int, seconds: float) -> dict[str, Any]:
        """Send the digit from so many clients for so long, and return the generator's summary."""
        words = {
            "protocol": protocol,
            "target": target,
            "path": PATHS[protocol],
            "body": self._bodies[protocol],
            "clients": clients,
            "duration": f"{seconds:g}s",
        }
        summary: dict[str, Any] = json.loads(
            run(str(self._binary), *(f"--{name}={word}" for name, word in words.items()))
        )
        return summary


def check_answers(system: System, digit: Digit) -> None:
    """Fail unless REST and gRPC both read the digit as the person did."""
    for protocol, label in (("rest", rest_label(system, digit)), ("grpc", grpc_label(system, digit))):
        if label != digit.label:
            raise BenchError(f"{system.case}: {protocol} reads {label}, the label is {digit.label}")


def rest_label(system: System, digit: Digit) -> int:
    """Ask over REST."""
    with contextlib.closing(http.client.HTTPConnection(system.targets["rest"], timeout=10)) as connection:
        try:
            connection.request("POST", PATHS["rest"], digit.json(), {"Content-Type": "application/json"})
            reply = connection.getresponse()
            text = reply.read().decode()
        except OSError as error:
            raise BenchError(f"REST at {system.targets['rest']}: {error}") from error
    if reply.status != http.HTTPStatus.OK:
        raise BenchError(f"REST at {system.targets['rest']}: {reply.status} {text}")
    outputs = {output["name"]: output["data"] for output in json.loads(text)["outputs"]}
    return int(outputs["label"][0])


def grpc_label(system: System, digit: Digit) -> int:
    """Ask over gRPC."""
    with grpc.insecure_channel(system.targets["grpc"]) as channel:
        stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            reply = stub.ModelInfer(digit.message(), timeout=10)
        except grpc.RpcError as error:
            raise BenchError(f"gRPC at {system.targets['grpc']}: {error}") from error
    contents = {output.name: raw for output, raw in zip(reply.outputs, reply.raw_output_contents, strict=True)}
    return int(np.frombuffer(contents["label"], dtype="<i8")[0])


def measure(system: System, load: LoadGenerator, clients: int, seconds: float) -> Iterator[Measurement]:
    """Measure both protocols, one after the other."""
    for protocol, target in system.targets.items():
        load.send(target, protocol, clients, WARM_UP_SECONDS)
        before = system.cpu_seconds()
        summary = load.send(target, protocol, clients, seconds)
        after = system.cpu_seconds()
        yield Measurement(system.case, protocol, clients, summary, cpu_per_request(before, after, summary))


def cpu_per_request(
    before: Mapping[str, float], after: Mapping[str, float], summary: Mapping[str, Any]
) -> dict[str, float]:
    """Return microseconds of CPU per request of each process, failed requests included.

    Raises
    ------
    BenchError
        A process came, went or restarted in between: its difference would mean nothing.
    """
    requests = summary["requests"] + summary["errors"]
    if before.keys() != after.keys() or any(after[name] < before[name] for name in before):
        raise BenchError(f"the processes changed during the measurement: {before} became {after}")
    if not requests:
        raise BenchError(f"no request was made: {summary}")
    return {name: 1e6 * (after[name] - before[name]) / requests for name in before}

"""Load on a digits model over both protocols, by the benchmark's generator, which aims at 127.0.0.1 alone."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from tests import digits as example
from tests.e2e.cluster import bound
from tests.e2e.services import Service

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = 4
"""Clients of each protocol; each has one request at a time under way."""
MOST_SECONDS = 280
"""The load ends by itself after this; a change that takes longer fails its test."""


@dataclass(frozen=True)
class Targets:
    """Where REST and gRPC requests go, as host:port of this machine."""

    rest: str
    grpc: str


PUBLISHED = Targets(rest="127.0.0.1:8000", grpc="127.0.0.1:8001")
"""The ports of the digits example that kind publishes."""


@dataclass(frozen=True)
class Failure:
    """A failed request: when it began (seconds since the epoch), how many seconds it took, and what came instead."""

    began: float
    seconds: float
    error: str


@dataclass(frozen=True)
class Outcome:
    """What the generators of both protocols counted."""

    summaries: tuple[dict[str, Any], ...]

    @property
    def requests(self) -> int:
        """Requests made, failed ones included."""
        return sum(int(summary["requests"]) for summary in self.summaries) + self.failed

    @property
    def failed(self) -> int:
        """Requests that got no answer, or another one than success."""
        return sum(int(summary["errors"]) for summary in self.summaries)

    @property
    def failures(self) -> list[Failure]:
        """The failed requests; of each protocol no more than the generator describes."""
        return [
            Failure(datetime.fromisoformat(found["began"]).timestamp(), found["seconds"], found["error"])
            for summary in self.summaries
            for found in summary.get("failures", [])
        ]

    @property
    def longest(self) -> float:
        """Seconds that the slowest request took, be it answered or failed."""
        answered = [float(summary["maxMicroseconds"]) / 1e6 for summary in self.summaries]
        return max(answered + [failure.seconds for failure in self.failures])

    def __str__(self) -> str:
        rest, grpc = (summary["p99Microseconds"] / 1000 for summary in self.summaries)
        return (
            f"{self.requests} requests, {self.failed} failed, p99 {rest:.0f} ms (REST) and {grpc:.0f} ms (gRPC), "
            f"longest {self.longest:.2f} s, in {max(summary['seconds'] for summary in self.summaries):.0f} s"
        )


def grpc_message(pixels: NDArray[np.float32]) -> bytes:
    """Return the serialised gRPC request for a batch of digits."""
    tensor = service_pb2.ModelInferRequest.InferInputTensor(name="x", shape=pixels.shape, datatype="FP32")
    message = service_pb2.ModelInferRequest(
        model_name="digits", inputs=[tensor], raw_input_contents=[pixels.astype(np.dtype("<f4")).tobytes()]
    )
    return bytes(message.SerializeToString())


class Load:
    """The built generator, with a digit's request to each protocol in files."""

    def __init__(self, folder: Path) -> None:
        self._binary = folder / "loadgen"
        bound("go")("build", "-C", str(ROOT / "bench" / "loadgen"), "-o", str(self._binary), ".", timeout=300)
        self._bodies = {"rest": folder / "body.json", "grpc": folder / "body.pb"}
        pixels = example.held_out()[:1]
        self._bodies["rest"].write_text(json.dumps(example.rest_body(pixels)))
        self._bodies["grpc"].write_bytes(grpc_message(pixels))

    def during(self, change: Callable[[], None], at_least: int, targets: Targets = PUBLISHED) -> Outcome:
        """Make a change in the midst of load, and end the load when it is made and enough requests are sent."""
        generators = [
            self._start("rest", targets.rest, "/v2/models/digits/infer", at_least // 2),
            self._start("grpc", targets.grpc, "/inference.GRPCInferenceService/ModelInfer", at_least // 2),
        ]
        try:
            for generator in generators:
                assert generator.stderr is not None
                assert generator.stderr.readline() == "every client is connected\n", generator.communicate()
            change()
            ended = [generator for generator in generators if generator.poll() is not None]
        finally:
            for generator in generators:
                generator.send_signal(signal.SIGINT)
            with ThreadPoolExecutor() as pool:
                outputs = list(pool.map(subprocess.Popen.communicate, generators))
        assert not ended, f"the load ended before the change: {outputs}"
        assert all(generator.returncode == 0 for generator in generators), outputs
        return Outcome(tuple(json.loads(out) for out, _ in outputs))

    def _start(self, protocol: str, target: str, path: str, at_least: int) -> subprocess.Popen[str]:
        words = {
            "protocol": protocol,
            "target": target,
            "path": path,
            "body": self._bodies[protocol],
            "clients": CLIENTS,
            "duration": f"{MOST_SECONDS}s",
            "at-least": at_least,
        }
        return subprocess.Popen(
            [str(self._binary), *(f"--{name}={word}" for name, word in words.items())],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@contextmanager
def forwarded(context: str, service: Service) -> Iterator[Targets]:
    """Forward ports of this machine to one gateway pod of a service; they end with the pod."""
    words = ("port-forward", "-n", service.namespace, f"deployment/{service.name}-gateway", "--address", "127.0.0.1")
    command = ["kubectl", "--context", context, *words, ":8000", ":8001"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            rest, grpc = (_forwarded_from(process.stdout.readline()) for _ in range(2))
            yield Targets(rest, grpc)
        finally:
            process.terminate()


def _forwarded_from(line: str) -> str:
    """Read host:port from "Forwarding from 127.0.0.1:40001 -> 8000"."""
    return line.split()[2]

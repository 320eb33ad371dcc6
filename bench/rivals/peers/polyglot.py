"""This project's two programs as local processes, with the defaults that the operator ships."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.processes import free_ports, program
from bench.rivals.peers.base import BATCH, ONE, ONE_BATCHED, QUIET, TWO, Endpoint, Running, Variant
from bench.rivals.wire import BINARY, GRPC, OIP_BINARY, OIP_GRPC, OIP_JSON, OIP_STREAM, REST, STREAM
from bench.rivals.workloads import ROOT, Workload

#: What a PolyglotService's `telemetry.tracing` becomes: one trace in a hundred, sent to a collector.
TRACING = {
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
    "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
    "OTEL_TRACES_SAMPLER_ARG": "0.01",
}
IDENTITY = '''\
"""The identity."""

from polyglot_inference import TensorSpec


class Model:
    """Answers y with what x holds."""

    inputs = (TensorSpec("x", "FP32", [-1, -1]),)
    outputs = (TensorSpec("y", "FP32", [-1, -1]),)

    def load(self, path):
        """Nothing to read."""

    def predict(self, inputs):
        """Run the model."""
        return {"y": inputs["x"]}
'''


@dataclass(frozen=True)
class Polyglot:
    """Gateway and inference server, or the server alone where there is no gateway."""

    name: str
    title: str
    note: str
    version: str
    gateway: Path | None = None
    batching: bool = False
    sockets: bool = False
    variants: Sequence[Variant] = (ONE, TWO)

    @property
    def protocols(self) -> list[str]:
        """Return what it speaks."""
        return [REST, BINARY, GRPC] if self.gateway else [GRPC, STREAM]

    @contextmanager
    def launch(self, variant: Variant, workload: Workload, folder: Path) -> Iterator[Running]:
        """Run it for the length of a block."""
        rest, grpc, admin, metrics, collector, *ports = free_ports(5 + variant.workers)
        addresses = [f"127.0.0.1:{port}" for port in ports]
        backend: dict[str, Any] = {"host": "127.0.0.1", "ports": ports}
        if self.sockets:
            sockets = [str(folder / f"{number}.sock") for number in range(variant.workers)]
            addresses, backend = [f"unix:{path}" for path in sockets], {"sockets": sockets}
        batched = self.batching or variant.batching
        batching = {"batching": {"maxSize": BATCH, "maxDelay": "0ms"}} if batched else {}
        inference = {
            "models": [{"name": workload.model, **_source(workload, folder), **batching}],
            "grpc": {"listen": addresses},
            "metrics": {"host": "127.0.0.1", "port": metrics},
        }
        listen = {name: f"127.0.0.1:{port}" for name, port in (("rest", rest), ("grpc", grpc), ("admin", admin))}
        gateway: dict[str, Any] = {"listen": listen, "backend": backend}
        if batching:
            gateway["models"] = [{"name": workload.model, **batching}]
        variables = QUIET | TRACING | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector}"}
        with ExitStack() as stack:
            sink = [sys.executable, "-m", "bench.rivals.collector", str(collector)]
            stack.enter_context(program(sink, folder / "collector.log", {"PYTHONPATH": str(ROOT)}))

            def started(name: str, binary: Path, settings: Mapping[str, Any]) -> Any:
                config = folder / f"{name}.yaml"
                config.write_text(yaml.safe_dump(dict(settings)))
                command: list[str | Path] = [binary, "--config", config]
                return stack.enter_context(program(command, folder / f"{name}.log", variables))

            server = started("inference", Path(sys.executable).with_name("polyglot-inference"), inference)
            if not self.gateway:
                yield Running({"inference": server}, [Endpoint(addresses[0], wire) for wire in (OIP_GRPC, OIP_STREAM)])
                return
            programs = {"gateway": started("gateway", self.gateway, gateway), "inference": server}
            endpoints = [Endpoint(listen["rest"], wire) for wire in (OIP_JSON, OIP_BINARY)]
            yield Running(programs, [*endpoints, Endpoint(listen["grpc"], OIP_GRPC)])


def peers(folder: Path, version: str) -> tuple[Polyglot, ...]:
    """Build the gateway into a folder and return our rows of the comparison."""
    gateway = folder / "gateway"
    subprocess.run(
        ["go", "build", "-C", ROOT / "services/go-gateway", "-o", gateway, "./cmd/gateway"],
        env={**os.environ, "CGO_ENABLED": "0"},
        check=True,
    )
    return rows(gateway, version)


def rows(gateway: Path, version: str) -> tuple[Polyglot, ...]:
    """Return our rows of the comparison with a built gateway."""
    shipped = "models off the loop, metrics on, 1 % of traces sent to a collector on this machine"
    return (
        Polyglot(
            "polyglot",
            "Polyglot",
            f"gateway and server over TCP, `batching: {{maxSize: {BATCH}, maxDelay: 0ms}}`, `inference.workers` 1 or 2;"
            f" {shipped}",
            version,
            gateway,
            batching=True,
        ),
        Polyglot(
            "polyglot-uds",
            "Polyglot, Unix sockets",
            "the same, with a Unix socket for each worker between gateway and server",
            version,
            gateway,
            batching=True,
            sockets=True,
        ),
        Polyglot(
            "unbatched",
            "Polyglot, unbatched",
            "as above, without `batching`",
            version,
            gateway,
            variants=(ONE,),
        ),
        Polyglot(
            "unbatched-uds",
            "Polyglot, unbatched, Unix sockets",
            "the same without `batching`",
            version,
            gateway,
            sockets=True,
            variants=(ONE,),
        ),
        Polyglot(
            "server",
            "Polyglot's server alone",
            f"gRPC straight to one worker, no gateway, with and without `batching`; {shipped}",
            version,
            variants=(ONE, ONE_BATCHED),
        ),
    )


def _source(workload: Workload, folder: Path) -> dict[str, str]:
    """Lay the model out in a folder, as a volume would hold it."""
    model = folder / "model"
    model.mkdir()
    if workload.file:
        (model / "model.onnx").symlink_to(workload.file)
        return {"format": "ONNX", "path": str(model)}
    (model / "model.py").write_text(IDENTITY)
    return {"format": "Python", "path": str(model)}

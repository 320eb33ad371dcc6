"""The two real programs, gateway and inference server, as processes on 127.0.0.1."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.http import call

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60


def free_port() -> int:
    """Return a TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def build_gateway(folder: Path) -> Path:
    """Build the gateway's binary into a folder."""
    binary = folder / "gateway"
    subprocess.run(["go", "build", "-o", str(binary), "./cmd/gateway"], cwd=ROOT / "services/go-gateway", check=True)
    return binary


@dataclass(frozen=True)
class Process:
    """A running program and the file that holds all it printed."""

    popen: subprocess.Popen[bytes]
    log: Path

    def stop(self, within: float = 30) -> int:
        """Send SIGTERM and return the exit status."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(within)

    def printed(self) -> str:
        """Return everything the program has printed so far."""
        return self.log.read_text()


@contextmanager
def running(command: list[str], log: Path, environment: Mapping[str, str] | None = None) -> Iterator[Process]:
    """Run a program, with additions to the environment, for the length of a block; at the end it is stopped.

    Raises TimeoutExpired when it had to be killed, because it did not end when it was told to.
    """
    env = {**os.environ, **(environment or {})}
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=env) as popen:
        process = Process(popen, log)
        try:
            yield process
        finally:
            try:
                if popen.poll() is None:
                    process.stop()
            finally:
                popen.kill()


def wait_until(condition: Callable[[], bool], processes: Sequence[Process], what: str = "ready") -> None:
    """Wait until a condition holds; fail with the programs' output when one of them ends or it takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and all(process.popen.poll() is None for process in processes):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(f"not {what}:\n" + "\n".join(process.printed() for process in processes))


def wait_for(process: Process, url: str) -> None:
    """Wait until a URL answers 200; fail with the program's output when it ends or takes too long."""

    def answers() -> bool:
        try:
            return call(url, timeout=2).status == 200
        except OSError:
            return False  # not listening yet

    wait_until(answers, [process], f"answering 200 at {url}")


@dataclass(frozen=True)
class Chain:
    """Gateway and inference server that know each other."""

    gateway: Process
    inference: Process
    rest: str
    grpc: str
    admin: str
    metrics: str

    def in_flight(self) -> float:
        """Return how many inference calls the inference server is working on."""
        lines = call(f"{self.metrics}/metrics").body.decode().splitlines()
        return sum(
            float(line.split()[-1]) for line in lines if line.startswith("polyglot_inference_requests_in_flight")
        )


def write_yaml(path: Path, content: dict[str, Any]) -> Path:
    """Write a configuration file and return its path."""
    path.write_text(yaml.safe_dump(content))
    return path


@contextmanager
def chain(
    folder: Path,
    gateway_binary: Path,
    models: list[dict[str, Any]],
    administration: Mapping[str, Any] | None = None,
) -> Iterator[Chain]:
    """Run an inference server with the given models and a gateway in front of it, both ready.

    A model's `batching` is told to both, and `administration` is what callers may do, at both.
    """
    inference_port, metrics_port, rest, grpc, admin = (free_port() for _ in range(5))
    inference_config = write_yaml(
        folder / "inference.yaml",
        {
            "models": models,
            "grpc": {"listen": [f"127.0.0.1:{inference_port}"]},
            "metrics": {"host": "127.0.0.1", "port": metrics_port},
            "administration": dict(administration or {}),
        },
    )
    gateway_config = write_yaml(
        folder / "gateway.yaml",
        {
            "listen": {name: f"127.0.0.1:{port}" for name, port in (("rest", rest), ("grpc", grpc), ("admin", admin))},
            "backend": {"host": "127.0.0.1", "ports": [inference_port], "resolveInterval": "1s"},
            "limits": {"maxRequestBytes": 1 << 20, "defaultTimeout": "30s"},
            "drain": {"timeout": "10s"},
            "models": [{"name": one["name"], "batching": one["batching"]} for one in models if "batching" in one],
            "administration": dict(administration or {}),
        },
    )
    server = [str(Path(sys.executable).parent / "polyglot-inference"), "--config", str(inference_config)]
    with (
        running(server, folder / "inference.log") as inference,
        running([str(gateway_binary), "--config", str(gateway_config)], folder / "gateway.log") as gateway,
    ):
        wait_for(inference, f"http://127.0.0.1:{metrics_port}/metrics")
        wait_for(gateway, f"http://127.0.0.1:{rest}/v2/health/ready")
        rest_url, metrics_url = f"http://127.0.0.1:{rest}", f"http://127.0.0.1:{metrics_port}"
        yield Chain(gateway, inference, rest_url, f"127.0.0.1:{grpc}", f"http://127.0.0.1:{admin}", metrics_url)

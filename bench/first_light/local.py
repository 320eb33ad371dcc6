"""The digits example without a cluster: gateway and inference server as two processes on 127.0.0.1."""

import contextlib
import http
import http.client
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from bench.command import BenchError, run
from bench.first_light.measure import DIGITS, ROOT
from bench.processes import Program, cpu_seconds, free_ports, program

#: Logs, traces and metrics go nowhere; W3C headers are still read and carried on.
QUIET = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}


class LocalProcesses:
    """Running processes, by name."""

    case = "local processes"

    def __init__(self, targets: Mapping[str, str], processes: Mapping[str, Program]) -> None:
        self.targets = targets
        self._processes = processes

    def cpu_seconds(self) -> dict[str, float]:
        """Return user and system time of each, in steps of 10 ms (proc(5))."""
        return {name: sum(cpu_seconds(one.popen.pid).values()) for name, one in self._processes.items()}


@contextlib.contextmanager
def running(folder: Path) -> Iterator[LocalProcesses]:
    """Build the gateway, start both processes and wait until the gateway finds a ready backend."""
    ports = dict(zip(("rest", "grpc", "admin", "inference", "metrics"), free_ports(5), strict=True))
    gateway = folder / "gateway"
    run("go", "build", "-C", str(ROOT / "services" / "go-gateway"), "-o", str(gateway), "./cmd/gateway")
    inference = Path(sys.executable).with_name("polyglot-inference")
    with (
        server(inference, inference_settings(ports), folder) as inference_process,
        server(gateway, gateway_settings(ports), folder) as gateway_process,
    ):
        wait_until_ready(f"127.0.0.1:{ports['rest']}", folder)
        yield LocalProcesses(
            {protocol: f"127.0.0.1:{ports[protocol]}" for protocol in ("rest", "grpc")},
            {"gateway": gateway_process, "inference": inference_process},
        )


def inference_settings(ports: Mapping[str, int]) -> dict[str, Any]:
    """Return the inference server's configuration."""
    return {
        "models": [{"name": "digits", "format": "ONNX", "path": str(DIGITS)}],
        "grpc": {"listen": [f"127.0.0.1:{ports['inference']}"]},
        "metrics": {"host": "127.0.0.1", "port": ports["metrics"]},
    }


def gateway_settings(ports: Mapping[str, int]) -> dict[str, Any]:
    """Return the gateway's configuration."""
    return {
        "listen": {name: f"127.0.0.1:{ports[name]}" for name in ("rest", "grpc", "admin")},
        "backend": {"host": "127.0.0.1", "ports": [ports["inference"]], "resolveInterval": "1s"},
        "limits": {"maxRequestBytes": 2**26, "defaultTimeout": "60s"},
        "drain": {"timeout": "25s"},
        "log": {"level": "info"},
    }


@contextlib.contextmanager
def server(binary: Path, settings: Mapping[str, Any], folder: Path) -> Iterator[Program]:
    """Run a server until the block ends; its output goes to a log beside its configuration."""
    config = folder / f"{binary.name}.yaml"
    config.write_text(yaml.safe_dump(dict(settings)))
    with program([binary, "--config", config], folder / f"{binary.name}.log", QUIET) as started:
        yield started


def wait_until_ready(target: str, logs: Path, within: float = 30) -> None:
    """Wait until the gateway finds a ready backend; otherwise fail with the ends of the logs."""
    deadline = time.monotonic() + within
    while not answers_ready(target):
        if time.monotonic() > deadline:
            tails = "\n".join(f"--- {log.name}\n{log.read_text()[-2000:]}" for log in sorted(logs.glob("*.log")))
            raise BenchError(f"{target} is not ready after {within:g} s\n{tails}")
        time.sleep(0.1)


def answers_ready(target: str) -> bool:
    """Return whether the gateway listens and has a ready backend."""
    with contextlib.closing(http.client.HTTPConnection(target, timeout=5)) as connection:
        try:
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == http.HTTPStatus.OK
        except OSError:  # nobody listens yet
            return False

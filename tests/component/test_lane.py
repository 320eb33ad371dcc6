"""Calls between gateway and inference servers by lane: the real programs, two servers behind one gateway."""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import tritonclient.grpc as triton

from tests.component.conftest import MODELS
from tests.component.processes import Process, free_port, running, wait_for, wait_until, write_yaml
from tests.http import call

TEXT: dict[str, Any] = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a b c"]}]}
TEXT_PATH = "/v2/models/text-statistics/infer"
SLOW: dict[str, Any] = {"inputs": [{"name": "seconds", "datatype": "FP32", "shape": [1], "data": [2]}]}
SLOW_PATH = "/v2/models/slow/infer"


class Server:
    """An inference server that can be started again at its address."""

    def __init__(self, folder: Path, **grpc: Any) -> None:
        folder.mkdir()
        self.port, self.metrics_port = free_port(), free_port()
        self._log = folder / "inference.log"
        self._life = ExitStack()
        self._config = write_yaml(
            folder / "inference.yaml",
            {
                "models": MODELS,
                "grpc": {"listen": [f"127.0.0.1:{self.port}"], **grpc},
                "metrics": {"host": "127.0.0.1", "port": self.metrics_port},
            },
        )

    def start(self) -> None:
        """Start it and wait until it is Ready."""
        command = [str(Path(sys.executable).parent / "polyglot-inference"), "--config", str(self._config)]
        process: Process = self._life.enter_context(running(command, self._log))
        wait_until(lambda: "State is Ready" in process.printed(), [process])

    def stop(self) -> None:
        """Have it drain and end."""
        self._life.close()

    def counted(self, pattern: str) -> float:
        """Return the sum of the samples whose series a pattern matches."""
        return counted(f"http://127.0.0.1:{self.metrics_port}/metrics", pattern)


@dataclass(frozen=True)
class Pair:
    """Two servers and their gateway."""

    servers: tuple[Server, Server]
    rest: str
    grpc: str
    admin: str

    def sent(self, way: str) -> float:
        """Return how many calls the gateway has sent in a way."""
        return counted(f"{self.admin}/metrics", rf'polyglot_gateway_infer_calls_total{{way="{way}"}}')

    def open_lanes(self) -> None:
        """Call until each server has a lane."""
        deadline = time.monotonic() + 10
        while counted(f"{self.admin}/metrics", "polyglot_gateway_backend_lane{") < len(self.servers):
            assert time.monotonic() < deadline, "no lane is open"
            assert call(f"{self.rest}{TEXT_PATH}", TEXT).status == 200


def counted(url: str, pattern: str) -> float:
    lines = call(url).body.decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if re.match(pattern, line))


@contextmanager
def paired(folder: Path, gateway_binary: Path, **listener: Any) -> Iterator[Pair]:
    """Run two servers, with these settings of `grpc`, behind a gateway, all ready."""
    servers = Server(folder / "one", **listener), Server(folder / "two", **listener)
    rest, grpc, admin = (free_port() for _ in range(3))
    config = write_yaml(
        folder / "gateway.yaml",
        {
            "listen": {name: f"127.0.0.1:{port}" for name, port in (("rest", rest), ("grpc", grpc), ("admin", admin))},
            "backend": {"host": "127.0.0.1", "ports": [server.port for server in servers]},
        },
    )
    with ExitStack() as stack:
        for server in servers:
            stack.callback(server.stop)
            server.start()
        gateway = stack.enter_context(running([str(gateway_binary), "--config", str(config)], folder / "gateway.log"))
        wait_for(gateway, f"http://127.0.0.1:{rest}/v2/health/ready")
        yield Pair(servers, f"http://127.0.0.1:{rest}", f"127.0.0.1:{grpc}", f"http://127.0.0.1:{admin}")


@pytest.fixture(scope="module")
def pair(gateway_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two servers whose lanes are open, shared by tests that leave them running."""
    with paired(tmp_path_factory.mktemp("pair"), gateway_binary) as running_pair:
        running_pair.open_lanes()
        yield running_pair


def test_calls_by_rest_and_grpc_travel_by_lane_and_the_servers_count_them_as_calls(pair: Pair) -> None:
    series = r'polyglot_inference_requests_total\{.*model="text-statistics".*'
    by_lane = pair.sent("lane")
    served = sum(server.counted(series) for server in pair.servers)
    for _ in range(10):
        assert call(f"{pair.rest}{TEXT_PATH}", TEXT, headers={"X-Request-Id": "order-1"}).status == 200
    text = triton.InferInput("text", [1], "BYTES")
    text.set_data_from_numpy(np.array([b"a b c"], dtype=np.object_))
    with triton.InferenceServerClient(pair.grpc) as client:
        for _ in range(10):
            assert client.infer("text-statistics", [text]).as_numpy("words").tolist() == [3]
    assert pair.sent("lane") - by_lane == 20
    assert sum(server.counted(series) for server in pair.servers) - served == 20


def test_a_failure_by_lane_has_status_code_and_trace_of_any_other(pair: Pair) -> None:
    by_lane = pair.sent("lane")
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-00"}
    reply = call(f"{pair.rest}/v2/models/none/infer", TEXT, headers=headers)
    assert pair.sent("lane") - by_lane == 1
    assert reply.status == 404
    assert reply.json() == {"error": reply.json()["error"], "code": "MODEL_NOT_FOUND", "traceId": trace_id}
    assert '"none"' in reply.json()["error"] or "'none'" in reply.json()["error"]


def test_a_deadline_ends_a_call_by_lane_in_time(pair: Pair) -> None:
    by_lane, started = pair.sent("lane"), time.monotonic()
    reply = call(f"{pair.rest}{SLOW_PATH}", SLOW, headers={"X-Request-Timeout": "0.3"})
    assert (reply.status, reply.json()["code"]) == (504, "DEADLINE_EXCEEDED")
    assert time.monotonic() - started < 1.5
    assert pair.sent("lane") - by_lane == 1


def test_a_caller_that_leaves_cancels_its_call_by_lane(pair: Pair) -> None:
    cancelled = r"polyglot_inference_requests_total\{.*CANCELLED.*"
    before = sum(server.counted(cancelled) for server in pair.servers)
    address = urlsplit(pair.rest)
    body = json.dumps(SLOW).encode()
    head = f"POST {SLOW_PATH} HTTP/1.1\r\nHost: gateway\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((address.hostname, address.port)) as caller:
        caller.sendall(head.encode() + body)
        in_flight = "polyglot_inference_requests_in_flight"
        deadline = time.monotonic() + 1.5
        while not sum(server.counted(in_flight) for server in pair.servers):
            assert time.monotonic() < deadline, "the call did not reach a server"
    deadline = time.monotonic() + 1.5
    while sum(server.counted(cancelled) for server in pair.servers) - before != 1:
        assert time.monotonic() < deadline, "no server was told that the caller has left"


@contextmanager
def under_load(own: Pair) -> Iterator[None]:
    """Have eight callers call for the length of a block, none in vain, and most by lane."""
    failures: list[str] = []
    answered = [0] * 8
    done = threading.Event()

    def keep_calling(number: int) -> None:
        while not done.is_set():
            reply = call(f"{own.rest}{TEXT_PATH}", TEXT)
            if reply.status != 200:
                failures.append(reply.body.decode())
            answered[number] += 1

    own.open_lanes()
    callers = [threading.Thread(target=keep_calling, args=(number,)) for number in range(len(answered))]
    for caller in callers:
        caller.start()
    try:
        yield
    finally:
        done.set()
        for caller in callers:
            caller.join()
    assert failures == []
    assert min(answered) > 0
    assert own.sent("lane") > sum(answered) / 2


def test_no_call_fails_when_the_connections_of_lanes_age(gateway_binary: Path, tmp_path: Path) -> None:
    with paired(tmp_path, gateway_binary, maxConnectionAge="1s") as own, under_load(own):
        time.sleep(3.5)  # three lives of a connection


def test_a_rolling_restart_of_the_servers_fails_no_call(gateway_binary: Path, tmp_path: Path) -> None:
    with paired(tmp_path, gateway_binary) as own, under_load(own):
        for server in own.servers:
            server.stop()
            server.start()
            own.open_lanes()

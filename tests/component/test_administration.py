"""What concerns every inference server reaches every one: a real gateway in front of two real servers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc

from tests.component.conftest import MODELS
from tests.component.processes import Process, free_port, running, wait_for, wait_until, write_yaml
from tests.http import Reply, call

MODEL = "text-statistics"


@dataclass(frozen=True)
class Pair:
    """A gateway and the two servers behind it, by their gRPC addresses."""

    rest: str
    servers: dict[str, Process]

    def ask(self, path: str, body: object | None = None) -> Reply:
        """Call the gateway: GET, or POST where there is a body."""
        return call(f"{self.rest}{path}", body)

    def json(self, path: str, body: object | None = None) -> Any:
        """Return the answer to a call that must succeed."""
        reply = self.ask(path, body)
        assert reply.status == 200, reply.body
        return json.loads(reply.body)

    def ready(self) -> list[bool]:
        """Whether each server, asked itself, can be called for the model."""
        found = []
        for address in self.servers:
            with tritonclient.grpc.InferenceServerClient(address) as client:
                found.append(client.is_model_ready(MODEL))
        return found


@pytest.fixture
def pair(gateway_binary: Path, tmp_path: Path) -> Iterator[Pair]:
    """A gateway that lets its callers do everything, in front of two servers."""
    rest, grpc, admin, first, second = (free_port() for _ in range(5))
    models = [model for model in MODELS if model["name"] == MODEL]
    with ExitStack() as stack:
        servers = {}
        for port in (first, second):
            config = write_yaml(
                tmp_path / f"inference-{port}.yaml",
                {
                    "models": models,
                    "grpc": {"listen": [f"127.0.0.1:{port}"]},
                    "metrics": {"host": "127.0.0.1", "port": free_port()},
                    "administration": {"mode": "Full"},
                },
            )
            command = [str(Path(sys.executable).parent / "polyglot-inference"), "--config", str(config)]
            servers[f"127.0.0.1:{port}"] = stack.enter_context(running(command, tmp_path / f"inference-{port}.log"))
        config = write_yaml(
            tmp_path / "gateway.yaml",
            {
                "listen": {
                    name: f"127.0.0.1:{port}" for name, port in (("rest", rest), ("grpc", grpc), ("admin", admin))
                },
                "backend": {"host": "127.0.0.1", "ports": [first, second]},
                "administration": {"mode": "Full"},
            },
        )
        gateway = stack.enter_context(running([str(gateway_binary), "--config", str(config)], tmp_path / "gateway.log"))
        found = Pair(f"http://127.0.0.1:{rest}", servers)
        wait_for(gateway, f"{found.rest}/v2/health/ready")
        wait_until(lambda: connected(f"http://127.0.0.1:{admin}") == len(servers), [gateway, *servers.values()])
        wait_until(lambda: index(found).get("state") == "READY", [gateway, *servers.values()])
        yield found


def connected(admin: str) -> int:
    """Return how many servers the gateway has a connection to."""
    states = call(f"{admin}/metrics").body.decode().splitlines()
    return sum(line.startswith("polyglot_gateway_backend_state") and 'state="ready"' in line for line in states)


def index(pair: Pair) -> dict[str, str]:
    """Return the model's entry in the joined index, nothing while a server does not answer."""
    reply = pair.ask("/v2/repository/index", {})
    entries = json.loads(reply.body) if reply.status == 200 else []
    return next((entry for entry in entries if entry["name"] == MODEL), {})


def infer(pair: Pair) -> None:
    """Call the model once."""
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["one two"]}
    pair.json(f"/v2/models/{MODEL}/infer", {"inputs": [tensor]})


def test_statistics_are_those_of_both_servers_together(pair: Pair) -> None:
    for _ in range(6):
        infer(pair)
    (model,) = pair.json(f"/v2/models/{MODEL}/stats")["model_stats"]
    assert (model["inference_count"], model["inference_stats"]["success"]["count"]) == (6, 6)
    own = []
    for address in pair.servers:
        with tritonclient.grpc.InferenceServerClient(address) as client:
            (stats,) = client.get_inference_statistics(MODEL).model_stats
            own.append(stats.inference_count)
    assert sum(own) == 6
    assert min(own) > 0, "one server got all calls, so nothing was summed"


def test_a_model_is_unloaded_and_loaded_in_both_servers(pair: Pair) -> None:
    assert pair.ask(f"/v2/repository/models/{MODEL}/unload", {}).status == 200
    assert pair.ready() == [False, False]
    assert index(pair)["state"] == "UNAVAILABLE"
    assert pair.ask(f"/v2/repository/models/{MODEL}/load", {}).status == 200
    assert pair.ready() == [True, True]
    assert index(pair)["state"] == "READY"
    infer(pair)


def test_the_index_names_the_server_whose_model_is_not_ready(pair: Pair) -> None:
    address = list(pair.servers)[1]
    with tritonclient.grpc.InferenceServerClient(address) as client:
        client.unload_model(MODEL)
    entry = index(pair)
    assert entry["state"] == "UNAVAILABLE"
    assert address in entry["reason"]
    assert pair.json("/v2/repository/index", {"ready": True}) == []


def test_a_change_that_one_server_misses_is_an_error_with_both_names(pair: Pair) -> None:
    alive, lost = pair.servers
    pair.servers[lost].popen.kill()
    pair.servers[lost].popen.wait()
    reply = pair.ask(f"/v2/repository/models/{MODEL}/load", {})
    failure = json.loads(reply.body)
    assert (reply.status, failure["code"]) == (500, "PARTIAL_FAILURE")
    assert f"1 of 2 inference servers failed: {lost} (" in failure["error"]
    assert failure["error"].endswith(f"succeeded on {alive}")

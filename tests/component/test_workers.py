"""Several inference server processes behind one command: they become Ready together, end together, and tell as one."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import socketserver
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tests.component.processes import ROOT, Process, free_port, running, wait_until, write_yaml
from tests.http import call

LIVES = 3
"""Seconds, and so the lives of a connection, in which every caller opens one anew."""
ROWS = {"name": "rows", "format": "Python", "path": str(ROOT / "tests/component/models/rows")}

# The process that loads second waits for the file `go`.
WAITING = """
import os, time

class Model:
    inputs = outputs = [dict(name="x", datatype="INT64", shape=[-1, 1])]

    def load(self, path):
        try:
            os.close(os.open(path / "first", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            while not (path / "go").exists():
                time.sleep(0.05)

    def predict(self, inputs):
        return inputs
"""


@dataclass(frozen=True)
class Served:
    """A running server with several workers."""

    process: Process
    addresses: list[str]
    metrics: str

    @property
    def log(self) -> list[dict[str, Any]]:
        """Every record logged so far."""
        return [json.loads(line) for line in self.process.printed().splitlines() if line.endswith("}")]

    @property
    def worker_pids(self) -> list[int]:
        """The processes of the workers, by number: they are started in turn."""
        children = Path(f"/proc/{self.process.popen.pid}/task/{self.process.popen.pid}/children").read_text().split()
        return sorted(int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes())

    def ready(self, address: str) -> bool:
        """Whether the worker at an address is Ready."""
        with triton.InferenceServerClient(address) as client:
            try:
                return bool(client.is_server_ready())
            except InferenceServerException:
                return False  # not listening yet

    def wait_until_ready(self) -> None:
        """Until all workers are."""
        wait_until(lambda: all(map(self.ready, self.addresses)), [self.process])


@contextmanager
def serving(folder: Path, workers: int = 2, model: dict[str, Any] = ROWS, **grpc: Any) -> Iterator[Served]:
    """Start a server with so many workers."""
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(workers)]
    metrics = free_port()
    config = {
        "models": [model],
        "grpc": {"listen": addresses, **grpc},
        "metrics": {"host": "127.0.0.1", "port": metrics},
    }
    command = [str(Path(sys.executable).parent / "polyglot-inference"), "--config"]
    with running([*command, str(write_yaml(folder / "inference.yaml", config))], folder / "inference.log") as process:
        yield Served(process, addresses, f"http://127.0.0.1:{metrics}/metrics")


def infer(client: triton.InferenceServerClient, row: int) -> int:
    tensor = triton.InferInput("x", [1, 1], "INT64")
    tensor.set_data_from_numpy(np.array([[row]], np.int64))
    return int(client.infer("rows", [tensor], client_timeout=30).as_numpy("x")[0, 0])


def test_every_worker_answers_at_its_address_and_one_page_has_the_metrics_of_all(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        served.wait_until_ready()
        for number, address in enumerate(served.addresses):
            with triton.InferenceServerClient(address) as client:
                assert [infer(client, row) for row in range(number + 1)] == list(range(number + 1))
        page = call(served.metrics).body.decode()
        counted = re.findall(r'inference_requests_total\{code="OK",model="rows",worker="(\d)"\} ([\d.]+)', page)
        assert sorted(counted) == [("0", "1.0"), ("1", "2.0")]
        assert page.count("# TYPE polyglot_inference_requests_total counter") == 1
        assert served.process.stop() == 0
    states = [(line["worker"], line["message"]) for line in served.log if line["message"].startswith("State")]
    assert sorted(states) == [
        (worker, f"State is {state}") for worker in (0, 1) for state in ("Draining", "Ready", "Starting")
    ]


def test_no_worker_is_ready_before_all_have_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.py").write_text(WAITING)
    with serving(tmp_path, model={"name": "rows", "format": "Python", "path": str(folder)}) as served:
        wait_until(lambda: any(line["message"] == "Loaded model" for line in served.log), [served.process])
        assert not any(map(served.ready, served.addresses))
        (folder / "go").touch()
        served.wait_until_ready()


def test_when_a_worker_dies_all_end_and_the_last_line_says_which(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        served.wait_until_ready()
        os.kill(served.worker_pids[1], signal.SIGKILL)
        assert served.process.popen.wait(30) == 137
    assert served.log[-1]["message"] == "Cannot serve: worker 1 ended with status 137; the others were ended"


def test_workers_end_when_the_watching_process_is_killed(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        served.wait_until_ready()
        pids = served.worker_pids
        served.process.popen.kill()
        served.process.popen.wait(30)
        wait_until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in pids), [], "ended")


def test_a_model_that_fails_to_load_is_named_in_the_last_line(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("class Model: pass")
    with serving(tmp_path, model={"name": "wrong", "format": "Python", "path": str(tmp_path)}) as served:
        assert served.process.popen.wait(30) == 1
    last = served.log[-1]["message"]
    assert re.fullmatch(r"Cannot serve: worker \d ended with status 1: model 'wrong': .*; the others were ended", last)


class Relay(socketserver.ThreadingTCPServer):
    """Passes every connection on to an address, and counts them."""

    daemon_threads = True

    def __init__(self, onward: str) -> None:
        host, _, port = onward.rpartition(":")
        self.onward = host, int(port)
        self.accepted = 0
        super().__init__(("127.0.0.1", 0), Passing)
        self.address = f"127.0.0.1:{self.server_address[1]}"

    def get_request(self) -> tuple[socket.socket, Any]:
        """Take a connection."""
        self.accepted += 1
        return super().get_request()


class Passing(socketserver.BaseRequestHandler):
    """One connection; each side's end is passed on, too."""

    server: Relay

    def handle(self) -> None:
        """Pass bytes both ways until both sides have ended."""
        with socket.create_connection(self.server.onward) as onward:
            back = threading.Thread(target=copy, args=(onward, self.request))
            back.start()
            copy(self.request, onward)
            back.join()


def copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while some := source.recv(1 << 16):
            sink.sendall(some)
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def relayed(addresses: list[str]) -> Iterator[list[Relay]]:
    """Have a relay in front of each address."""
    with ExitStack() as stack:
        relays = [stack.enter_context(Relay(address)) for address in addresses]
        for relay in relays:
            threading.Thread(target=relay.serve_forever, args=(0.05,)).start()
            stack.callback(relay.shutdown)
        yield relays


@pytest.mark.parametrize("workers", [1, 2])
def test_no_call_fails_when_connections_age(tmp_path: Path, workers: int) -> None:
    failures: list[str] = []
    answered = [0] * 8
    done = threading.Event()
    with (
        serving(tmp_path, workers=workers, maxConnectionAge="1s") as served,
        relayed(served.addresses) as relays,
    ):
        served.wait_until_ready()

        def keep_calling(number: int) -> None:
            options = [("grpc.use_local_subchannel_pool", 1)]
            with triton.InferenceServerClient(relays[number % workers].address, channel_args=options) as client:
                while not done.is_set():
                    try:
                        assert infer(client, number) == number
                    except InferenceServerException as error:
                        failures.append(str(error))
                    answered[number] += 1

        callers = [threading.Thread(target=keep_calling, args=(number,)) for number in range(8)]
        for caller in callers:
            caller.start()
        done.wait(LIVES * 1.1 + 1)
        done.set()
        for caller in callers:
            caller.join()
    assert failures == []
    assert min(answered) > 0
    assert sum(relay.accepted for relay in relays) > LIVES * len(callers), "the callers kept their connections"

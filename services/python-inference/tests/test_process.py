"""The shipped command: a process that starts from a file, serves, and ends on signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import yaml

from polyglot_inference.protocol.pb import grpc_service_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from polyglot_inference.settings import ModelSettings
    from tests.conftest import RawRequest, Receiver, WritePython

COMMAND = Path(sys.executable).with_name("polyglot-inference")
WITHIN = 30.0

# Says through its standard error that a call runs, and waits for a line on its standard input before it answers.
HELD = """
    import sys
    from polyglot_inference import TensorSpec

    class Model:
        inputs = outputs = [TensorSpec("x", "INT64", [-1])]

        def load(self, path):
            pass

        def predict(self, inputs):
            print("held", file=sys.stderr, flush=True)
            sys.stdin.readline()
            return {"x": inputs["x"]}
"""
SLOW_TO_LOAD = """
    import sys

    class Model:
        inputs = outputs = []
        predict = print

        def load(self, path):
            print("held", file=sys.stderr, flush=True)
            sys.stdin.readline()
"""


class Process:
    """A running `polyglot-inference`."""

    def __init__(self, config: Path, environment: dict[str, str]) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
        self._process = subprocess.Popen(
            [COMMAND, "--config", config],
            env={**inherited, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        # Nothing here may wait for ever: a process that hangs is killed, and every read ends.
        self._watchdog = threading.Timer(WITHIN, self._process.kill)
        self._watchdog.start()
        self.log: list[dict[str, Any]] = []

    def wait_for_log(self, message: str) -> dict[str, Any]:
        """The first line with this message."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.log.append(json.loads(line))
            if self.log[-1]["message"] == message:
                return self.log[-1]
        raise AssertionError(f"the process ended without logging {message!r}: {self.log}")

    def wait_until_held(self) -> None:
        """Until the model's code waits for `release`."""
        assert self._process.stderr is not None
        assert self._process.stderr.readline() == "held\n"

    def release(self) -> None:
        """Let the model's code go on."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def signal(self) -> None:
        """Send SIGTERM."""
        self._process.send_signal(signal.SIGTERM)

    def end(self) -> tuple[int, str]:
        """Wait for the end, releasing nothing: exit status and the rest of the standard error."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self.log.extend(json.loads(line) for line in self._process.stdout)
        stderr = self._process.stderr.read()
        self._watchdog.cancel()
        return self._process.wait(), stderr

    def kill(self) -> None:
        """End it whatever it does."""
        self._watchdog.cancel()
        self._process.kill()
        self._process.communicate()


Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Process] = []

    def run(*models: ModelSettings, environment: dict[str, str] | None = None, **sections: Any) -> Process:
        config = {
            "models": [model.model_dump(mode="json", by_alias=True) for model in models],
            "grpc": {"listen": ["127.0.0.1:0"]},
            "metrics": {"host": "127.0.0.1", "port": 0},
            **sections,
        }
        path = tmp_path / "inference.yaml"
        path.write_text(yaml.safe_dump(config))
        started.append(Process(path, environment or {}))
        return started[-1]

    yield run
    for process in started:
        process.kill()


def channel(process: Process) -> grpc.Channel:
    """A channel to the process once it is Ready."""
    address = process.wait_for_log("Listening")["grpc"]
    process.wait_for_log("State is Ready")
    return grpc.insecure_channel(address)


def test_the_process_serves_drains_on_sigterm_and_exports_its_spans(
    start: Start, python_model: WritePython, raw_request: RawRequest, receiver: Receiver
) -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_SERVICE_NAME": "held-inference"}
    process = start(python_model("held", HELD), environment=environment)
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    with channel(process) as connected:
        stub = pb_grpc.GRPCInferenceServiceStub(connected)
        call = stub.ModelInfer.future(
            raw_request("held", "x", "INT64", np.array([5])),
            timeout=WITHIN,
            metadata=(("traceparent", f"00-{trace_id}-00f067aa0ba902b7-01"),),
        )
        process.wait_until_held()
        process.signal()
        process.wait_for_log("State is Draining")
        process.release()
        assert np.frombuffer(call.result().raw_output_contents[0], np.int64).tolist() == [5]
    status, stderr = process.end()
    assert (status, stderr) == (0, "")
    assert [line["message"] for line in process.log if line["message"].startswith("State")] == [
        "State is Starting",
        "State is Ready",
        "State is Draining",
    ]
    assert {(span.service, span.trace_id) for span in receiver.spans} == {("held-inference", trace_id)}
    assert {span.name for span in receiver.spans} == {"inference.GRPCInferenceService/ModelInfer", "execute"}


def test_a_second_sigterm_ends_the_process_at_once_with_a_call_still_running(
    start: Start, python_model: WritePython, raw_request: RawRequest
) -> None:
    process = start(python_model("held", HELD))
    with channel(process) as connected:
        stub = pb_grpc.GRPCInferenceServiceStub(connected)
        call = stub.ModelInfer.future(raw_request("held", "x", "INT64", np.array([5])), timeout=WITHIN)
        process.wait_until_held()
        process.signal()
        process.wait_for_log("State is Draining")
        process.signal()
        assert process.end()[0] == 143
        assert call.code() is grpc.StatusCode.UNAVAILABLE


def test_a_drain_that_exceeds_its_timeout_still_ends_the_process_with_status_0(
    start: Start, python_model: WritePython, raw_request: RawRequest
) -> None:
    process = start(python_model("held", HELD), drain={"timeoutSeconds": 0.1})
    with channel(process) as connected:
        stub = pb_grpc.GRPCInferenceServiceStub(connected)
        call = stub.ModelInfer.future(raw_request("held", "x", "INT64", np.array([5])), timeout=WITHIN)
        process.wait_until_held()
        process.signal()
        assert process.end()[0] == 0
        assert call.code() is grpc.StatusCode.UNAVAILABLE
    assert process.log[-1]["message"] == "Cancelling the calls still in flight"


def test_sigterm_while_a_model_loads_ends_the_process(start: Start, python_model: WritePython) -> None:
    process = start(python_model("slow", SLOW_TO_LOAD))
    process.wait_until_held()
    process.signal()
    assert process.end()[0] == 0


def test_a_model_that_cannot_be_loaded_is_the_last_line_of_the_log(start: Start, python_model: WritePython) -> None:
    process = start(python_model("wrong", "class Model: pass"))
    assert process.end() == (1, "")
    assert process.log[-1]["message"] == (
        "Cannot serve: model 'wrong': class Model must declare 'inputs' as a list of TensorSpec"
    )


@pytest.mark.parametrize("section", ["grpc", "metrics"])
def test_a_port_that_is_taken_ends_the_process_with_the_section_named(
    start: Start, identity: ModelSettings, section: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        listeners = {"grpc": {"listen": [f"127.0.0.1:{port}"]}, "metrics": {"host": "127.0.0.1", "port": port}}
        process = start(identity, **{section: listeners[section]})
        assert process.end()[0] == 1
    assert process.log[-1]["message"].startswith(f"Cannot serve: {section}: cannot listen on 127.0.0.1:{port}")


def test_a_unix_socket_of_a_killed_process_is_taken_over_and_open_to_the_group_only(
    start: Start, identity: ModelSettings, raw_request: RawRequest, tmp_path: Path
) -> None:
    path = tmp_path / "inference.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    process = start(identity, grpc={"listen": [f"unix:{path}"]})
    with channel(process) as connected:
        tensor = np.ones((1, 4), np.float32)
        response = pb_grpc.GRPCInferenceServiceStub(connected).ModelInfer(
            raw_request("identity", "x", "FP32", tensor), timeout=WITHIN
        )
        assert response.raw_output_contents[0] == tensor.tobytes()
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    process.signal()
    assert process.end() == (0, "")


@pytest.mark.parametrize("occupant", ["file", "listener"])
def test_a_unix_path_that_is_in_use_ends_the_process_and_stays(
    start: Start, identity: ModelSettings, tmp_path: Path, occupant: str
) -> None:
    path = tmp_path / "inference.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        if occupant == "file":
            path.write_text("precious")
        else:
            listener.bind(str(path))
            listener.listen()
        process = start(identity, grpc={"listen": [f"unix:{path}"]})
        assert process.end()[0] == 1
    why = {"file": "the path exists and is no socket", "listener": "another process listens there"}[occupant]
    assert process.log[-1]["message"] == f"Cannot serve: grpc: cannot listen on unix:{path}: {why}"
    assert path.exists()


def test_wrong_settings_end_the_process_with_status_2_and_the_field_named(
    start: Start, identity: ModelSettings
) -> None:
    status, stderr = start(identity, grpc={"prot": 9000}).end()
    assert status == 2
    assert stderr == "polyglot-inference: grpc.prot: Extra inputs are not permitted\n"


def test_a_wrong_trace_exporter_ends_the_process_with_status_2(start: Start, identity: ModelSettings) -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317", "OTEL_TRACES_EXPORTER": "zipkin"}
    status, stderr = start(identity, environment=environment).end()
    assert status == 2
    assert "OTEL_TRACES_EXPORTER: 'zipkin' is not supported" in stderr

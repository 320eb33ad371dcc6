"""`polyglot serve` and `make try`: a PolyglotService on this machine, with the two real programs."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException, shared_memory

from tests import digits as example
from tests.component.processes import ROOT, Process, running, wait_until
from tests.http import call

PROGRAM = str(Path(sys.executable).with_name("polyglot"))
SERVICE = """apiVersion: polyglot.dev/v1alpha1
kind: PolyglotService
metadata: {{name: local}}
spec:
  models:
  - name: {name}
    format: Python
    source: {{configMap: {{name: {name}}}}}
"""
COUNTDOWN = """
import numpy as np


class Model:
    inputs = [dict(name="text", datatype="BYTES", shape=[-1])]
    outputs = [dict(name="left", datatype="INT64", shape=[1])]

    def stream(self, inputs):
        for left in (3, 2, 1):
            yield {"left": np.array([left])}
"""
READY = re.compile(r"ready: REST (\S+), gRPC (\S+), metrics (\S+)")


def write_service(folder: Path, name: str) -> Path:
    """Declare a service with one Python model, whose files must lie in a folder of its name beside the file."""
    file = folder / "service.yaml"
    file.write_text(SERVICE.format(name=name))
    return file


def write_model(folder: Path, name: str, source: str) -> Path:
    """Declare a service with one Python model of this source."""
    (folder / name).mkdir()
    (folder / name / "model.py").write_text(source)
    return write_service(folder, name)


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A service whose model sleeps as long as it is told to."""
    (tmp_path / "slow").symlink_to(ROOT / "tests/component/models/slow")
    return write_service(tmp_path, "slow")


@contextmanager
def serving(file: Path, gateway: Path, log: Path, *words: str) -> Iterator[tuple[Process, str]]:
    """Run `polyglot serve` for the length of a block; yield it and its REST address once it is ready."""
    command = [PROGRAM, "serve", str(file), "--gateway", str(gateway), "--port", "0", *words]
    with running(command, log) as process:
        wait_until(lambda: READY.search(process.printed()) is not None, [process])
        found = READY.search(process.printed())
        assert found
        yield process, found[1]


def refusal(*words: str) -> str:
    """Run `polyglot serve`, which must end with status 1 before long, and return what it says."""
    done = subprocess.run([PROGRAM, "serve", *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stderr.strip()


def sleep_for(rest: str, seconds: float) -> int:
    """Let the slow model sleep; return the status of the answer."""
    body = {"inputs": [{"name": "seconds", "datatype": "FP32", "shape": [1], "data": [seconds]}]}
    return call(f"{rest}/v2/models/slow/infer", body).status


def descendants(pid: int) -> set[int]:
    """Return the processes that a process, or one that it has started, has started."""
    own = children(pid)
    return own.union(*map(descendants, own))


def children(pid: int) -> set[int]:
    """Return the processes that a process has started."""
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def test_an_example_is_served_and_ends_with_nothing_left(gateway_binary: Path, tmp_path: Path) -> None:
    file = ROOT / "examples/python-model/text-statistics.yaml"
    with serving(file, gateway_binary, tmp_path / "log") as (process, rest):
        body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [2], "data": ["a b c", "größer"]}]}
        reply = call(f"{rest}/v2/models/text-statistics/infer", body)
        assert reply.status == 200, reply.body
        assert {output["name"]: output["data"] for output in reply.json()["outputs"]}["words"] == [3, 1]
        assert call(f"{rest}/v2/repository/models/text-statistics/unload", {}).status == 200
        assert call(f"{rest}/v2/models/text-statistics/infer", body).status != 200
        started = children(process.popen.pid)
        scratch = re.findall(r"unix:(\S+)/inference-0.sock", process.printed())[0]
        process.popen.send_signal(signal.SIGINT)
        assert process.popen.wait(30) == 0
    assert len(started) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)
    assert not Path(scratch).exists()
    assert "not on this machine: inference.resources" in process.printed()
    assert re.search(r"^inference  \d\d:\d\d:\d\d INFO    State is Ready$", process.printed(), re.MULTILINE)
    with pytest.raises(OSError, match="refused"):
        call(f"{rest}/v2/health/live")


def test_an_interrupt_lets_calls_in_flight_end_and_a_second_one_does_not(
    slow: Path, gateway_binary: Path, tmp_path: Path
) -> None:
    with concurrent.futures.ThreadPoolExecutor() as threads:
        with serving(slow, gateway_binary, tmp_path / "log") as (process, rest):
            answer = threads.submit(sleep_for, rest, 1)
            time.sleep(0.3)
            process.popen.send_signal(signal.SIGINT)
            assert process.popen.wait(30) == 0
            assert answer.result() == 200
        with serving(slow, gateway_binary, tmp_path / "log") as (process, rest):
            answer = threads.submit(sleep_for, rest, 20)
            time.sleep(0.3)
            process.popen.send_signal(signal.SIGINT)
            wait_until(lambda: "Draining" in process.printed(), [process])
            process.popen.send_signal(signal.SIGINT)
            assert process.popen.wait(5) == 130
            with pytest.raises(OSError):  # noqa: PT011  # reset, or closed without an answer
                answer.result()


def test_a_program_that_dies_ends_the_other_and_is_named(slow: Path, gateway_binary: Path, tmp_path: Path) -> None:
    with serving(slow, gateway_binary, tmp_path / "log") as (process, _):
        started = children(process.popen.pid)
        (server,) = (pid for pid in started if "polyglot-inference" in Path(f"/proc/{pid}/cmdline").read_text())
        os.kill(server, signal.SIGKILL)
        assert process.popen.wait(30) == 1
    assert process.printed().splitlines()[-1] == "polyglot: the inference was ended by SIGKILL"
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)


def test_the_programs_end_when_serve_is_killed(slow: Path, gateway_binary: Path, tmp_path: Path) -> None:
    slow.write_text(slow.read_text() + "  inference: {workers: 2}\n")
    with serving(slow, gateway_binary, tmp_path / "log") as (process, _):
        started = descendants(process.popen.pid)
        process.popen.kill()
        process.popen.wait()
        wait_until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in started), [], "ended")
    assert len(started) >= 4  # the gateway, the watcher of the inference server and its two workers


def test_what_a_killed_serve_left_is_removed_at_the_next_start_and_what_is_in_use_is_not(
    slow: Path, gateway_binary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as temporary:  # sockets have short paths; those of pytest are long
        monkeypatch.setenv("TMPDIR", temporary)
        with serving(slow, gateway_binary, tmp_path / "killed") as (process, _):
            (left,) = Path(temporary).iterdir()
            started = descendants(process.popen.pid)
            process.popen.kill()
            process.popen.wait()
            wait_until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in started), [], "ended")
        assert (left / "inference.yaml").exists()
        with (
            serving(slow, gateway_binary, tmp_path / "first") as (first, rest),
            serving(slow, gateway_binary, tmp_path / "second") as (second, _),
        ):
            assert f"removed {left}: its polyglot serve was killed" in first.printed()
            assert "removed" not in second.printed()
            assert len(list(Path(temporary).iterdir())) == 2
            assert sleep_for(rest, 0) == 200
        assert list(Path(temporary).iterdir()) == []


def test_a_model_that_fails_to_load_is_told_in_the_last_line(gateway_binary: Path, tmp_path: Path) -> None:
    source = "class Model:\n    inputs = outputs = []\n    def load(self, path): open(path / 'weights.bin')\n"
    file = write_model(tmp_path, "broken", source + "    def predict(self, inputs): ...\n")
    told = refusal(str(file), "--gateway", str(gateway_binary), "--port", "0").splitlines()[-1]
    assert told.startswith("polyglot: the inference ended with status 1: Cannot serve: model 'broken': ")
    assert "FileNotFoundError" in told
    assert "weights.bin" in told


def test_what_can_not_be_served_is_refused_with_what_to_change(gateway_binary: Path, slow: Path) -> None:
    gateway = ("--gateway", str(gateway_binary))
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        told = refusal(str(slow), *gateway, "--port", str(taken))
    assert f"port {taken} of 127.0.0.1 (REST) can't be had: Address already in use" in told
    assert "--port" in told
    slow.write_text(slow.read_text() + "---\n" + slow.read_text())
    assert "holds 2 PolyglotServices (local, local); keep the one to serve" in refusal(str(slow), *gateway)
    slow.write_text(slow.read_text().replace("Python", "TF"))
    assert "spec.models[0].format: Input should be 'ONNX' or 'Python'" in refusal(str(slow), *gateway)
    slow.write_text("a: [")
    assert refusal(str(slow), *gateway).startswith(f"polyglot: {slow}: no YAML: ")
    digits = ROOT / "examples/gpu/gpu.yaml"
    assert refusal(str(digits), *gateway).endswith("--model digits=PATH")
    assert "`make .bin/polyglot-gateway` builds it" in refusal(str(digits), "--gateway", "/nowhere/gateway")


def test_unmodified_clients_hand_tensors_over_in_shared_memory_where_that_is_enabled(
    gateway_binary: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows").symlink_to(ROOT / "tests/component/models/rows")
    file = write_service(tmp_path, "rows")
    with serving(file, gateway_binary, tmp_path / "log", "--shared-memory") as (process, rest):
        ready = READY.search(process.printed())
        assert ready
        for client in (triton_http, triton_grpc):
            address = rest.removeprefix("http://") if client is triton_http else ready[2]
            assert_answers_in_shared_memory(client, address)
    with (
        serving(file, gateway_binary, tmp_path / "log") as (_, rest),
        triton_http.InferenceServerClient(rest.removeprefix("http://")) as caller,
        pytest.raises(InferenceServerException, match=r"system shared memory is off"),
    ):
        caller.register_system_shared_memory("region", "/polyglot_test", 8)


def assert_answers_in_shared_memory(client: ModuleType, address: str) -> None:
    """Send a tensor and take the answer in one region, by Triton's own client."""
    rows = np.array([[3], [5]], np.int64)
    size = rows.nbytes
    region = shared_memory.create_shared_memory_region("region", f"/polyglot_{os.getpid()}", 2 * size)
    try:
        shared_memory.set_shared_memory_region(region, [rows])
        with client.InferenceServerClient(address) as caller:
            caller.register_system_shared_memory("region", f"/polyglot_{os.getpid()}", 2 * size)
            asked, wanted = client.InferInput("x", list(rows.shape), "INT64"), client.InferRequestedOutput("x")
            asked.set_shared_memory("region", size)
            wanted.set_shared_memory("region", size, offset=size)
            answer = caller.infer("rows", [asked], outputs=[wanted])
            if client is triton_http:  # Triton's answer has no data either; that it says where the output lies is ours
                (output,) = answer.get_response()["outputs"]
                assert "data" not in output
                where = {"region": "region", "offset": size, "byte_size": size}
                assert output["parameters"] == {f"shared_memory_{key}": value for key, value in where.items()}
            found = shared_memory.get_contents_as_numpy(region, np.int64, rows.shape, offset=size)
            np.testing.assert_array_equal(found, rows)
            caller.unregister_system_shared_memory("region")
    finally:
        shared_memory.destroy_shared_memory_region(region)


def test_a_terminal_shows_a_live_line(gateway_binary: Path) -> None:
    ours, theirs = pty.openpty()
    file = ROOT / "examples/digits/digits.yaml"
    command = [PROGRAM, "serve", str(file), "--gateway", str(gateway_binary), "--port", "0"]
    with subprocess.Popen(command, stdout=theirs) as process:
        os.close(theirs)
        seen = b""
        try:
            deadline = time.monotonic() + 60
            asked = False
            line = re.compile(r"\r\x1b\[K[1-9]\d* requests/s, p99 ≤ [\d.]+ ms, mean batch 3.0 rows")
            while not line.search(seen.decode(errors="replace")):
                assert time.monotonic() < deadline, seen.decode()
                seen += os.read(ours, 4096)
                ready = READY.search(seen.decode(errors="replace"))
                if ready and not asked:
                    body = example.rest_body(example.held_out()[:3])
                    asked = call(f"{ready[1]}/v2/models/digits/infer", body).status == 200
        finally:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(OSError):  # the end of what a terminal has to read
                while os.read(ours, 4096):
                    pass
            os.close(ours)
    assert process.returncode == 0


def ask_once(file: Path, gateway: Path) -> subprocess.CompletedProcess[str]:
    """Run what `make try TRY_ONCE=1 FILE=…` runs."""
    words = [sys.executable, "examples/ask.py", str(file), "--gateway", str(gateway)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def answers(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines with the answers of the model."""
    return [line for line in done.stdout.splitlines() if " answered: " in line]


def test_make_try_once_prints_the_answer_of_a_real_client(gateway_binary: Path) -> None:
    done = ask_once(ROOT / "examples/digits/digits.yaml", gateway_binary)
    assert done.returncode == 0, done.stdout + done.stderr
    (answer,) = answers(done)
    assert re.fullmatch(r"digits answered: \{'label': \[\d\], 'probabilities': \[\[.*\]\]\}", answer)


def test_make_try_once_prints_each_answer_of_a_model_that_streams(gateway_binary: Path, tmp_path: Path) -> None:
    done = ask_once(write_model(tmp_path, "countdown", COUNTDOWN), gateway_binary)
    assert done.returncode == 0, done.stdout + done.stderr
    assert answers(done) == [f"countdown answered: {{'left': [{number}]}}" for number in (3, 2, 1)]


def test_make_try_once_fails_when_a_stream_does(gateway_binary: Path, tmp_path: Path) -> None:
    broken = COUNTDOWN + "        raise RuntimeError('no fuel')\n"
    done = ask_once(write_model(tmp_path, "countdown", broken), gateway_binary)
    assert done.returncode == 1, done.stdout + done.stderr
    assert len(answers(done)) == 3
    assert "no fuel" in done.stderr


def test_make_try_once_fails_when_the_model_does(gateway_binary: Path, tmp_path: Path) -> None:
    file = write_model(tmp_path, "broken", "raise RuntimeError('no weights')")
    done = ask_once(file, gateway_binary)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "no weights" in done.stderr

"""Programs under test, what is read of them from /proc, and how a benchmark begins and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import processes
from bench.command import BenchError, perform, refuse_strays, run
from bench.processes import cpu_seconds

ROOT = Path(__file__).resolve().parents[2]


def test_local_cpu_grows_by_what_the_process_computes() -> None:
    own = os.getpid()
    before = cpu_seconds(own)[own]
    target = os.times().user + 0.05
    while os.times().user < target:
        pass
    assert 0.04 <= cpu_seconds(own)[own] - before < 1


def test_local_cpu_reads_past_a_command_name_with_parentheses(tmp_path: Path) -> None:
    program = tmp_path / "a) 1 (b"
    program.symlink_to(sys.executable)
    with subprocess.Popen([program, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert 0 <= cpu_seconds(process.pid)[process.pid] < 10


def test_a_missing_program_is_named_with_the_remedy() -> None:
    with pytest.raises(BenchError, match="no-such-program is not there; run `make venv tools`"):
        run("no-such-program")


def test_a_failed_command_tells_what_it_said() -> None:
    with pytest.raises(BenchError, match="the reason"):
        run(sys.executable, "-c", "import sys; sys.exit('the reason')")


def test_cpu_of_a_tree_counts_children_that_came_and_forgets_those_that_went() -> None:
    assert processes.cpu_between({1: 1.0, 2: 5.0}, {1: 1.5, 3: 0.25}) == 0.75


def test_the_cpu_of_an_ended_child_is_counted() -> None:
    before = processes.ended_children_cpu_seconds()
    burn = "import time\nwhile time.process_time() < 0.2: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    assert 0.2 <= processes.ended_children_cpu_seconds() - before < 5


def left_by_a_killed_run(tmp_path: Path) -> int:
    """Kill a run whose program goes on; return that one's pid."""
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom bench.processes import program\n"
        "command = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        "with program(command, Path(sys.argv[1]), {}) as left:\n"
        "    print(left.popen.pid, flush=True)\n    signal.pause()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        assert pid not in processes.strays(), "its run lives"
        run.kill()
    return pid


def test_a_run_beside_what_a_killed_one_left_is_refused(tmp_path: Path) -> None:
    pid = left_by_a_killed_run(tmp_path)
    try:
        with pytest.raises(BenchError, match=rf"`kill -9 .*\b{pid}\b.*` ends them:(.|\n)*{pid} .*time.sleep"):
            refuse_strays()
    finally:
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while pid in processes.strays():
        assert time.monotonic() < deadline, "killed, and still found"
        time.sleep(0.05)


def test_a_benchmark_ends_what_it_started_when_it_is_ended_itself(tmp_path: Path) -> None:
    script = (
        "import signal, sys\nfrom pathlib import Path\nfrom bench.command import perform\n"
        "from bench.processes import program\n"
        "def benchmark():\n"
        "    command = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        "    with program(command, Path(sys.argv[1]), {}) as started:\n"
        "        print(started.popen.pid, flush=True)\n        signal.pause()\n"
        "perform(benchmark)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        run.terminate()
    assert run.returncode == 128 + signal.SIGTERM
    assert not Path(f"/proc/{pid}").exists()


def test_a_failed_benchmark_says_why() -> None:
    def benchmark() -> int:
        raise BenchError("the reason")

    with pytest.raises(SystemExit, match=r"^bench failed: the reason$"):
        perform(benchmark)


def test_a_program_ends_with_all_its_children(tmp_path: Path) -> None:
    child = "import os, time; os.setsid(); time.sleep(60)"
    script = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    with processes.program([sys.executable, "-c", script], tmp_path / "log", {}) as server:
        deadline = time.monotonic() + 20
        while len(processes.tree(server.popen.pid)) < 2:
            assert time.monotonic() < deadline, "the child was not seen"
            time.sleep(0.05)
        family = processes.tree(server.popen.pid)
        assert processes.memory(server.popen.pid).proportional > 2**20
        assert sum(processes.cpu_seconds(server.popen.pid).values()) > 0
    time.sleep(0.1)
    left = [pid for pid in family if Path(f"/proc/{pid}").exists()]
    states = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in left]
    assert set(states) <= {"Z"}, "only what the system has still to reap may be left"

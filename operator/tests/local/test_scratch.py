"""The folder of one `polyglot serve`: what was left behind goes, what anybody uses stays."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from polyglot_operator.local.scratch import PREFIX, scratch

KILLED = """
import os, signal
from polyglot_operator.local.scratch import scratch
with scratch(print) as own:
    (own.folder / "model").mkdir()
    (own.folder / "model/weights").write_text("1")
    (own.folder / "model/there").symlink_to("/usr")
    print(own.folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, of this test alone."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)  # it remembers
    return tmp_path


def killed() -> Path:
    """Let a process be killed that has a folder, and return that."""
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, check=False)
    return Path(done.stdout.splitlines()[-1])


def test_a_folder_is_there_for_the_length_of_a_block(temporary: Path) -> None:
    with scratch(print) as own:
        (own.folder / "file").touch()
        assert own.folder.parent == temporary
    assert list(temporary.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next_and_told(temporary: Path) -> None:
    left, told = killed(), list[str]()
    assert (left / "model/weights").exists()
    with scratch(told.append) as own:
        assert list(temporary.iterdir()) == [own.folder]
    assert told == [f"removed {left}: its polyglot serve was killed"]
    assert Path("/usr").exists()


def test_what_is_in_use_stays(temporary: Path) -> None:
    told = list[str]()
    with scratch(print) as own, scratch(told.append) as other:
        assert own.folder.exists()
        assert set(temporary.iterdir()) == {own.folder, other.folder}
    assert told == []


def test_what_a_program_of_a_killed_process_still_uses_stays_until_that_ends(temporary: Path) -> None:
    start = "import subprocess; subprocess.Popen(['cat'], pass_fds=[own.lock]); "
    command = [sys.executable, "-c", KILLED.replace("os.kill(", f"{start}os.kill(")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        left = Path(process.stdout.readline().strip())
        process.wait()
        with scratch(print):
            assert left.exists()
        process.stdin.close()  # which ends the program
    deadline = time.monotonic() + 10
    while left.exists() and time.monotonic() < deadline:
        with scratch(print):
            time.sleep(0.01)
    assert list(temporary.iterdir()) == []


def test_what_only_bears_such_a_name_stays(temporary: Path) -> None:
    elsewhere, link, file = temporary / "elsewhere", temporary / f"{PREFIX}link", temporary / f"{PREFIX}file"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    link.symlink_to(elsewhere)
    file.touch()
    with scratch(print):
        pass
    assert (elsewhere / "kept").exists()
    assert file.exists()


def test_a_folder_of_another_user_stays(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = temporary / f"{PREFIX}theirs"
    theirs.mkdir()
    monkeypatch.setattr(os, "getuid", lambda: theirs.stat().st_uid + 1)
    with scratch(print):
        assert theirs.exists()

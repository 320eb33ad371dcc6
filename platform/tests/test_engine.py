"""When an engine may be started, and with which runtime."""

import io
from pathlib import Path

import pytest

from polyglot_platform import engine
from polyglot_platform.places import Places
from polyglot_platform.progress import Progress


@pytest.mark.parametrize(
    ("mask", "lacks"),
    [
        ("000001ffffffffff", False),
        ("000001fffeffffff", True),
        ("0000000000000000", True),
        ("0000000001000000", False),
    ],
)
def test_the_bounded_runtime_is_for_hosts_without_cap_sys_resource(mask: str, lacks: bool) -> None:
    assert engine.lacks_capability(f"Name:\tx\nCapEff:\t{mask}\nCapBnd:\t{mask}\n") is lacks


def test_a_kernel_that_tells_no_bounding_set_is_taken_as_unrestricted() -> None:
    assert not engine.lacks_capability("Name:\tx\n")


@pytest.mark.parametrize("pid_file", [None, "", "not a number", "999999999", "1"])
def test_only_an_engine_with_our_pid_file_is_ever_stopped(tmp_path: Path, pid_file: str | None) -> None:
    places = Places(root=tmp_path, cache=tmp_path)
    places.engine.mkdir()
    if pid_file is not None:
        (places.engine / "dockerd.pid").write_text(pid_file)
    out = io.StringIO()
    engine.stop(places, Progress(out))
    assert "left alone" in out.getvalue()

"""What goes wrong on a person's machine ends in an error that says what to do."""

import socket
from pathlib import Path

import pytest

from polyglot_platform import process
from polyglot_platform.cli import main
from polyglot_platform.cluster import require_free_ports
from polyglot_platform.errors import CommandError, PlatformError
from polyglot_platform.source import Source, choose
from polyglot_platform.workshop import available_memory, require_disk


def test_a_taken_port_is_named_with_its_remedy() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PlatformError, match=f"127.0.0.1:{port}") as refused:
            require_free_ports([("127.0.0.1", port)])
    assert "ss -ltnp" in refused.value.remedy
    require_free_ports([("127.0.0.1", port)])


def test_a_full_disk_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="a build from source needs") as refused:
        require_disk(tmp_path, needed=2**60)
    assert "free disk space" in refused.value.remedy
    require_disk(tmp_path / "not yet there", needed=0)


def test_an_unknown_image_source_is_refused() -> None:
    with pytest.raises(PlatformError, match="IMAGES=cloud is unknown"):
        choose({"IMAGES": "cloud"})


@pytest.mark.parametrize("source", list(Source))
def test_the_image_source_is_what_the_user_says(source: Source) -> None:
    assert choose({"IMAGES": source.value}) is source


def test_a_missing_program_is_named() -> None:
    with pytest.raises(PlatformError, match="`no-such-program` is not installed"):
        process.run(["no-such-program"])


def test_a_failing_command_shows_its_last_words_and_names_its_log(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "work.log"
    with pytest.raises(CommandError, match="out of luck") as failure:
        process.run(["sh", "-c", "echo out of luck; exit 3"], log=log)
    assert failure.value.status == 3
    assert str(log) in failure.value.remedy
    assert log.read_text() == "out of luck\n"


def test_a_failure_shows_only_its_own_part_of_a_shared_log(tmp_path: Path) -> None:
    log = tmp_path / "work.log"
    process.run(["echo", "earlier"], log=log)
    with pytest.raises(CommandError) as failure:
        process.run(["sh", "-c", "echo later; exit 1"], log=log)
    assert failure.value.output == "later\n"


@pytest.mark.parametrize(("producer", "consumer"), [("exit 4", "cat"), ("echo x", "exit 4")])
def test_both_ends_of_a_pipe_are_judged(tmp_path: Path, producer: str, consumer: str) -> None:
    with pytest.raises(CommandError) as failure:
        process.pipe(["sh", "-c", producer], ["sh", "-c", consumer], log=tmp_path / "log")
    assert failure.value.status == 4


def test_a_program_that_does_not_answer_in_time_is_a_no() -> None:
    assert not process.succeeds(["sleep", "10"], timeout=0.05)
    assert not process.succeeds(["no-such-program"])
    assert process.succeeds(["true"])


def test_an_unknown_command_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["clusterr"])
    assert "engine-stop" in capsys.readouterr().err


def test_available_memory_is_read_in_bytes(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  100 kB\nMemAvailable:   7 kB\n")
    assert available_memory(meminfo) == 7 * 1024

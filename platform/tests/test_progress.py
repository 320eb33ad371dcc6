"""One line per piece of work, with times."""

import io

import pytest

from polyglot_platform.progress import Progress


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_step_prints_its_own_time_and_the_time_since_the_start() -> None:
    clock, out = Clock(), io.StringIO()
    progress = Progress(out, clock)
    clock.now += 10
    with progress.step("etcd 3.6.14", "built"):
        clock.now += 2.5
    assert out.getvalue().split() == ["12.5s", "etcd", "3.6.14", "built", "(2.5s)"]


def test_a_failing_step_says_so_and_passes_the_error_on() -> None:
    clock, out = Clock(), io.StringIO()
    progress = Progress(out, clock)

    def work() -> None:
        with progress.step("etcd", "built", announce="building"):
            raise ValueError("why")

    with pytest.raises(ValueError, match="why"):
        work()
    assert [line.split()[1:3] for line in out.getvalue().splitlines()] == [["etcd", "building"], ["etcd", "FAILED"]]

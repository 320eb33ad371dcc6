"""Registering parts of shared memory objects, and what is refused."""

from __future__ import annotations

import os
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyglot_inference.errors import AlreadyExistsError, InvalidRequestError, NotFoundError
from polyglot_inference.runtime.shared_memory import FOLDER, MOST_REGIONS, SharedMemory

PREFIX = "/polyglot-test-"


@pytest.fixture
def memory() -> SharedMemory:
    return SharedMemory(PREFIX, max_bytes=10_000)


@pytest.fixture
def file() -> Iterator[Path]:
    """A shared memory object of 10,000 bytes."""
    made = FOLDER / f"{PREFIX[1:]}{uuid.uuid4().hex}"
    made.write_bytes(bytes(range(250)) * 40)
    yield made
    made.unlink(missing_ok=True)


def test_a_region_is_a_part_of_the_object_and_shared_with_it(memory: SharedMemory, file: Path) -> None:
    memory.register("part", f"/{file.name}", 5000, 100)  # 5000 is no multiple of a page
    region = memory.region("part")
    assert bytes(region.read(10, 4)) == bytes([10, 11, 12, 13])
    region.write(10, b"true")
    assert file.read_bytes()[5010:5014] == b"true"


def test_a_region_in_use_outlives_its_object_and_that_it_is_forgotten(memory: SharedMemory, file: Path) -> None:
    memory.register("all", f"/{file.name}", 0, 10_000)
    region = memory.region("all")
    file.unlink()
    memory.unregister("all")
    region.write(1, b"!")
    assert bytes(region.read(0, 3)) == b"\0!\2"
    assert len(memory) == 0


def test_a_region_that_nobody_uses_any_more_is_closed(memory: SharedMemory, file: Path) -> None:
    memory.register("all", f"/{file.name}", 0, 10_000)
    descriptor = memory.region("all").descriptor
    os.fstat(descriptor)
    memory.unregister("all")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_what_is_refused_is_closed(memory: SharedMemory, file: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        with pytest.raises(InvalidRequestError):
            memory.register("all", f"/{file.name}", 0, 10_001)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_what_was_read_stays_as_it_was(memory: SharedMemory, file: Path) -> None:
    memory.register("all", f"/{file.name}", 0, 10_000)
    before = memory.region("all").read(0, 10_000)
    file.write_bytes(bytes(10_000))
    assert bytes(before) == bytes(range(250)) * 40
    assert before.readonly


def test_regions_are_forgotten_one_by_one_or_all_together(memory: SharedMemory, file: Path) -> None:
    for name in ("a", "b", "c"):
        memory.register(name, f"/{file.name}", 0, 1)
    memory.unregister("b")
    memory.unregister("unknown")
    assert [region.name for region in memory.regions()] == ["a", "c"]
    memory.unregister("")
    assert memory.regions() == []
    with pytest.raises(NotFoundError, match="region 'a' is not registered"):
        memory.region("a")


def test_a_name_is_registered_once(memory: SharedMemory, file: Path) -> None:
    memory.register("part", f"/{file.name}", 0, 1)
    with pytest.raises(AlreadyExistsError, match="'part' is registered; unregister it first"):
        memory.register("part", f"/{file.name}", 0, 1)


@pytest.mark.parametrize(
    ("offset", "byte_size", "complaint"),
    [
        (0, 10_001, "10001 bytes from 0 exceed"),
        (10_000, 1, "1 bytes from 10000 exceed"),
        (2**64 - 1, 2, "exceed"),
        (0, 2**64 - 1, "exceed"),
        (0, 0, "byte_size must be above 0"),
    ],
)
def test_more_than_the_object_has_is_refused(
    memory: SharedMemory, file: Path, offset: int, byte_size: int, complaint: str
) -> None:
    with pytest.raises(InvalidRequestError, match=complaint):
        memory.register("part", f"/{file.name}", offset, byte_size)
    assert len(memory) == 0


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        ("/other", "must begin with '/polyglot-test-'"),
        ("", "must begin with"),
        ("/polyglot-test-/../../etc/passwd", "no further slash"),
        ("/polyglot-test-\0", "no further slash"),
        ("/polyglot-test-absent", "cannot open '/polyglot-test-absent': No such file or directory"),
    ],
)
def test_a_key_that_may_not_be_named_or_names_nothing_is_refused(
    memory: SharedMemory, key: str, complaint: str
) -> None:
    with pytest.raises(InvalidRequestError, match=complaint):
        memory.register("part", key, 0, 1)


def test_a_link_and_a_folder_are_refused(memory: SharedMemory, file: Path) -> None:
    link, folder = file.with_name(f"{file.name}-link"), file.with_name(f"{file.name}-folder")
    link.symlink_to(file)
    folder.mkdir()
    try:
        for name in (link.name, folder.name):
            with pytest.raises(InvalidRequestError, match="cannot open"):
                memory.register("part", f"/{name}", 0, 1)
    finally:
        link.unlink()
        folder.rmdir()


def test_a_part_beyond_the_region_is_refused(memory: SharedMemory, file: Path) -> None:
    memory.register("part", f"/{file.name}", 0, 100)
    for offset, size in ((0, 101), (100, 1), (2**62, 2**62)):
        with pytest.raises(InvalidRequestError, match="exceed shared memory region 'part' of 100 bytes"):
            memory.region("part").require(offset, size)


def test_a_region_whose_object_has_shrunk_is_refused(memory: SharedMemory, file: Path) -> None:
    memory.register("all", f"/{file.name}", 0, 10_000)
    with file.open("r+b") as opened:
        opened.truncate(100)
    region = memory.region("all")
    for use in (lambda: region.require(0, 50), lambda: region.read(0, 50), lambda: region.write(0, b"x")):
        with pytest.raises(InvalidRequestError, match="has become smaller than what was registered"):
            use()


def test_an_object_that_shrinks_at_any_moment_ends_no_process(memory: SharedMemory, file: Path) -> None:
    size = 1 << 20
    file.write_bytes(bytes(size))
    memory.register("all", f"/{file.name}", 0, size)
    region, done = memory.region("all"), threading.Event()

    def shrink_and_grow() -> None:
        while not done.is_set():
            os.truncate(file, 0)
            os.truncate(file, size)

    outcomes = Counter[str]()
    shrinking = threading.Thread(target=shrink_and_grow)
    shrinking.start()
    try:
        for _ in range(200):
            for use in (lambda: region.read(0, size), lambda: region.write(0, bytes(size))):
                try:
                    use()
                    outcomes["used"] += 1
                except InvalidRequestError as refusal:
                    outcomes["refused" if "has become smaller" in refusal.message else refusal.message] += 1
    finally:
        done.set()
        shrinking.join()
    assert set(outcomes) <= {"refused", "used"}
    assert outcomes["refused"]


def test_the_number_of_regions_is_bounded(memory: SharedMemory, file: Path) -> None:
    for number in range(MOST_REGIONS):
        memory.register(str(number), f"/{file.name}", 0, 1)
    with pytest.raises(InvalidRequestError, match=f"{MOST_REGIONS} are registered"):
        memory.register("one more", f"/{file.name}", 0, 1)

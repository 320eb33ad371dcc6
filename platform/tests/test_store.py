"""The cache keeps whole artifacts and forgets the least recently used."""

import os
from pathlib import Path

import pytest

from polyglot_platform.store import ArtifactStore, Entry, beyond_limit, last_use, touch_stamp


def put(root: Path, name: str, size: int, used_at: float) -> None:
    """An artifact of another run, last used at a given time."""
    with ArtifactStore(root).building(name, "k") as folder:
        (folder / "file").write_bytes(b"x" * size)
    os.utime(root / f"{name}-k", (used_at, used_at))


def test_a_finished_build_is_found_again(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    with store.building("kind", "k1") as folder:
        (folder / "kind").write_text("program")
    found = ArtifactStore(tmp_path).find("kind", "k1")
    assert found is not None
    assert (found / "kind").read_text() == "program"
    assert store.find("kind", "k2") is None


def test_an_interrupted_build_leaves_nothing_to_find_and_starts_clean_again(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)

    def interrupted() -> None:
        with store.building("kind", "k") as folder:
            (folder / "half").write_text("")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert store.find("kind", "k") is None
    with store.building("kind", "k") as folder:
        assert list(folder.iterdir()) == []
    assert store.find("kind", "k") is not None


def test_eviction_removes_the_least_recently_used_until_the_rest_fits(tmp_path: Path) -> None:
    for name, used_at in (("old", 100), ("older", 50), ("new", 200)):
        put(tmp_path, name, size=1000, used_at=used_at)
    assert ArtifactStore(tmp_path).evict(2500) == ["older-k"]
    assert {folder.name for folder in tmp_path.iterdir()} == {"old-k", "new-k"}


def test_finding_an_artifact_counts_as_use(tmp_path: Path) -> None:
    put(tmp_path, "found", size=1000, used_at=50)
    put(tmp_path, "idle", size=1000, used_at=100)
    ArtifactStore(tmp_path).find("found", "k")
    assert ArtifactStore(tmp_path).evict(1500) == ["idle-k"]


def test_eviction_keeps_what_this_run_used_even_over_the_limit(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    with store.building("needed", "k") as folder:
        (folder / "file").write_bytes(b"x" * 1000)
    assert store.evict(1) == []
    assert store.find("needed", "k") is not None


def test_eviction_of_an_absent_cache_does_nothing(tmp_path: Path) -> None:
    assert ArtifactStore(tmp_path / "absent").evict(1) == []


def test_an_image_never_stamped_counts_as_unused_for_ever(tmp_path: Path) -> None:
    touch_stamp(tmp_path, "polyglot_node-1")
    assert last_use(tmp_path, "polyglot_node-1") > last_use(tmp_path, "polyglot_node-2") == 0


@pytest.mark.parametrize(
    ("max_bytes", "evicted"),
    [(60, []), (59, ["oldest"]), (45, ["older"]), (20, ["older", "oldest"]), (0, ["new", "older", "oldest"])],
)
def test_what_is_in_use_is_kept_first_and_the_rest_by_its_last_use(max_bytes: int, evicted: list[str]) -> None:
    entries = [
        Entry("oldest", size=10, used_at=1),
        Entry("older", size=30, used_at=2),
        Entry("new", size=10, used_at=3),
        Entry("running", size=10, used_at=0, in_use=True),
    ]
    assert beyond_limit(entries, max_bytes) == evicted

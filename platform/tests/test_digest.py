"""Names follow contents, and nothing else."""

import os
from pathlib import Path

import pytest

from polyglot_platform.digest import digest, digest_tree, files_below


def test_the_same_parts_give_the_same_name() -> None:
    assert digest("a", "b") == digest("a", "b")


@pytest.mark.parametrize("other", [("ab", ""), ("a", "c"), ("b", "a"), ("a", "b", "")])
def test_other_parts_give_another_name(other: tuple[str, ...]) -> None:
    assert digest(*other) != digest("a", "b")


def test_times_and_order_of_files_do_not_matter(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("1")
    second.write_text("2")
    before = digest_tree(tmp_path, [first, second])
    os.utime(first, (0, 0))
    assert digest_tree(tmp_path, [second, first]) == before


def test_contents_names_and_the_executable_bit_matter(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("1")
    seen = {digest_tree(tmp_path, [file])}
    file.chmod(0o755)
    seen.add(digest_tree(tmp_path, [file]))
    file.write_text("2")
    seen.add(digest_tree(tmp_path, [file]))
    seen.add(digest_tree(tmp_path, [file.rename(tmp_path / "b")]))
    assert len(seen) == 4


def test_compiled_python_is_no_part_of_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "x.pyc").write_text("")
    (tmp_path / "Dockerfile").write_text("")
    assert [path.name for path in files_below(tmp_path)] == ["Dockerfile"]

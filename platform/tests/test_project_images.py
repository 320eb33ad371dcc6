"""What decides a project image's tag."""

from pathlib import Path

import pytest

from polyglot_platform.errors import PlatformError
from polyglot_platform.images import Images
from polyglot_platform.places import Places
from polyglot_platform.process import run
from polyglot_platform.progress import Progress
from polyglot_platform.project_images import OPERATOR, ProjectImages
from polyglot_platform.source import Source
from polyglot_platform.workshop import Workshop


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git checkout with an operator in it."""
    folder = tmp_path / "checkout"
    (folder / "operator" / "tests").mkdir(parents=True)
    (folder / "operator" / "Dockerfile").write_text("FROM scratch\n")
    (folder / "operator" / "main.py").write_text("print()\n")
    run(["git", "init", "--quiet"], cwd=folder)
    return folder


def reference(checkout: Path) -> str:
    places, progress = Places(root=checkout, cache=checkout.parent / "cache"), Progress()
    images = Images(places, progress, Workshop(places, progress))
    return ProjectImages(places, progress, images, Source.REGISTRY).reference(OPERATOR)


def test_the_tag_is_twelve_hex_digits_of_the_content(checkout: Path) -> None:
    name, _, tag = reference(checkout).partition(":")
    assert name == "polyglot/operator"
    assert len(tag) == 12
    int(tag, 16)


@pytest.mark.parametrize("name", ["tests/test_x.py", "README.md", "ignored.log"])
def test_the_tag_ignores_tests_prose_and_what_git_ignores(checkout: Path, name: str) -> None:
    (checkout / ".gitignore").write_text("*.log\n")
    before = reference(checkout)
    (checkout / "operator" / name).write_text("new")
    assert reference(checkout) == before


@pytest.mark.parametrize("name", ["main.py", "new.py", "Dockerfile", "requirements.lock"])
def test_the_tag_follows_the_working_tree_committed_or_not(checkout: Path, name: str) -> None:
    before = reference(checkout)
    (checkout / "operator" / name).write_text("FROM scratch\n# new")
    assert reference(checkout) != before


def test_a_part_that_does_not_exist_is_named(checkout: Path) -> None:
    (checkout / "operator" / "Dockerfile").unlink()
    with pytest.raises(PlatformError, match="operator/Dockerfile does not exist"):
        reference(checkout)

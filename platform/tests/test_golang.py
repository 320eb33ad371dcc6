"""Building with the real compiler: the smallest program of the platform."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from polyglot_platform import golang
from polyglot_platform.components import PAUSE
from polyglot_platform.errors import CommandError

PLATFORM = Path(__file__).resolve().parents[1]


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    """A copy of the recipe that a test may change."""
    shutil.copytree(PLATFORM / PAUSE.folder, tmp_path / PAUSE.folder)
    return tmp_path


def test_pause_builds_static_and_ends_on_sigterm(recipes: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    golang.build(PAUSE, recipes, target, tmp_path / "log")
    assert subprocess.run(["go", "version", "-m", target / "pause"], capture_output=True, text=True, check=True).stdout
    process = subprocess.Popen([target / "pause"])
    process.terminate()
    # SIGTERM may come before the handler is in place: both ways of ending are fine, staying is not.
    assert process.wait(timeout=10) in {0, -15}


def test_a_broken_build_names_its_log_and_shows_the_compilers_words(recipes: Path, tmp_path: Path) -> None:
    (recipes / PAUSE.folder / "main.go").write_text("package main\nfunc main() { nonsense }\n")
    with pytest.raises(CommandError, match="undefined: nonsense") as failure:
        golang.build(PAUSE, recipes, tmp_path, tmp_path / "build.log")
    assert str(tmp_path / "build.log") in failure.value.remedy


def test_the_key_follows_sources_and_flags_but_not_prose(recipes: Path) -> None:
    before = golang.key(PAUSE, recipes)
    (recipes / PAUSE.folder / "README.md").write_text("words")
    assert golang.key(PAUSE, recipes) == before
    assert golang.key(replace(PAUSE, tags="other"), recipes) != before
    with (recipes / PAUSE.folder / "main.go").open("a") as source:
        source.write("// changed\n")
    assert golang.key(PAUSE, recipes) != before

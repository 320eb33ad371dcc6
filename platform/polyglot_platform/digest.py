"""Content hashes: the same inputs give the same name, on every machine and in every clone."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

LENGTH = 12


def digest(*parts: str) -> str:
    """Hash strings so that moving a character from one part to its neighbour changes the result."""
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode()
        whole.update(f"{len(data)}:".encode())
        whole.update(data)
    return whole.hexdigest()[:LENGTH]


def digest_tree(root: Path, files: Iterable[Path]) -> str:
    """Hash paths (relative to `root`), contents and executable bits, whatever their order and times."""
    parts: list[str] = []
    for file in sorted(files):
        executable = "x" if file.stat().st_mode & 0o100 else "-"
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        parts += [file.relative_to(root).as_posix(), executable, content]
    return digest(*parts)


def files_below(folder: Path) -> list[Path]:
    """All regular files of a recipe folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)

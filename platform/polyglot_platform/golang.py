"""Building Go programs from released modules."""

import json
import shutil
from pathlib import Path

from polyglot_platform.components import GoProgram
from polyglot_platform.digest import digest, digest_tree, files_below
from polyglot_platform.process import run

ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "-trimpath -buildvcs=false", "GOWORK": "off"}
"""Static programs whose bytes depend neither on the checkout's path nor on the user's settings."""


def key(program: GoProgram, platform: Path) -> str:
    """The content hash of everything that decides what the build yields."""
    folder = platform / program.folder
    pinned = digest_tree(folder, _sources(folder)) if program.folder else ""
    return digest(repr(program), repr(ENVIRONMENT), go_version(), pinned)


def build(program: GoProgram, platform: Path, target: Path, log: Path) -> None:
    """Put the programs, and the module files that go with them, into `target`."""
    flags = ["-tags", program.tags, "-ldflags", linker_flags(program)]
    if program.folder:
        folder = platform / program.folder
        run(["go", "build", *flags, "-o", f"{target}/", *program.packages], cwd=folder, env=ENVIRONMENT, log=log)
    elif program.packages:
        packages = [f"{program.module}/{package}".removesuffix("/.") for package in program.packages]
        versioned = [f"{package}@{program.version}" for package in packages]
        run(["go", "install", *flags, *versioned], env={**ENVIRONMENT, "GOBIN": str(target)}, log=log)
    for name in program.module_files:
        _copy_module_file(_module_directory(program, platform), name, target)


def linker_flags(program: GoProgram) -> str:
    """No symbol table (half the size), and the version variables."""
    return " ".join(["-s -w", *(f"-X={name}={value}" for name, value in program.variables.items())])


def go_version() -> str:
    """The compiler's version, part of every key."""
    return run(["go", "env", "GOVERSION"], env={"GOTOOLCHAIN": "local"}).strip()


def _sources(folder: Path) -> list[Path]:
    return [file for file in files_below(folder) if file.suffix in {".go", ".mod", ".sum"}]


def _module_directory(program: GoProgram, platform: Path) -> Path:
    """Where Go unpacked the module: charts and templates travel in it."""
    if program.folder:
        command = ["go", "list", "-m", "-json", program.module]
        answer = run(command, cwd=platform / program.folder, env=ENVIRONMENT)
    else:
        answer = run(["go", "mod", "download", "-json", f"{program.module}@{program.version}"], env=ENVIRONMENT)
    return Path(json.loads(answer)["Dir"])


def _copy_module_file(module: Path, name: str, target: Path) -> None:
    source, copy = module / name, target / name
    copy.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, copy, copy_function=shutil.copyfile)
    else:
        shutil.copyfile(source, copy)
    for path in (copy, *copy.rglob("*")):  # the module cache is read-only; the artifact must be removable
        path.chmod(0o755 if path.is_dir() else 0o644)

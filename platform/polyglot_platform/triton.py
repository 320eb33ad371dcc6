"""Triton Inference Server, from NVIDIA's wheel of PyTriton; not by its launcher, which locks administrative calls."""

from __future__ import annotations

import os
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from polyglot_platform.environments import Environment, environment

STUB = "triton_python_backend_stub"


@dataclass(frozen=True)
class Triton:
    """An installed `tritonserver` that runs Python models."""

    environment: Environment

    @classmethod
    def installed(cls) -> Triton:
        """Return the server, installed now unless the cache has it."""
        return cls(environment("triton", _complete))

    @property
    def command(self) -> list[str]:
        """The server with the folders that it finds its parts in."""
        server = _server(self.environment.packages)
        return [
            str(server / "bin" / "tritonserver"),
            f"--backend-directory={server / 'backends'}",
            f"--cache-directory={server / 'caches'}",
        ]

    @property
    def variables(self) -> dict[str, str]:
        """What the process needs in its environment."""
        # The stub takes the first python3 of PATH for its own, and that one's numpy. With numpy 2, which it was not
        # built for, it does not fail: it corrupts tensors.
        return {
            "PATH": f"{self.environment.python.parent}{os.pathsep}{os.environ['PATH']}",
            "LD_LIBRARY_PATH": python_library_folder(),
        }


def _complete(packages: Path) -> None:
    """Put the stub for this Python to where Triton's Python backend looks for it."""
    version = sysconfig.get_python_version()
    stub = _server(packages) / "python_backend_stubs" / version / STUB
    (_server(packages) / "backends" / "python" / STUB).hardlink_to(stub)


def _server(packages: Path) -> Path:
    return packages / "pytriton" / "tritonserver"


def python_library_folder() -> str:
    """Return where the shared libpython is that Triton's stub is linked to.

    Raises FileNotFoundError when this Python has none.
    """
    folder, library = sysconfig.get_config_vars("LIBDIR", "INSTSONAME")
    if not Path(folder, library).exists() or ".so" not in library:
        raise FileNotFoundError(
            f"{library} is no shared library in {folder}: Triton's Python backend needs a shared libpython"
        )
    return str(folder)

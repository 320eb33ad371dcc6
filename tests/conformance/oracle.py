"""Triton Inference Server, from NVIDIA's wheel: what this project is compared with."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import tritonclient.grpc

from tests.component.processes import free_port, running, wait_for
from tests.conformance.environments import Environment
from tests.conformance.models.definitions import LOADED_ON_DEMAND
from tests.conformance.targets import ADMIN_HEADER, Instance, eventually, in_background, lay_out

STUB = "triton_python_backend_stub"


class TritonServer:
    """`tritonserver` with a model folder and explicit model control.

    The wheel is PyTriton's; its own launcher is not used, since it locks the administrative calls.
    """

    name = "triton"

    def __init__(self, environment: Environment) -> None:
        self._server = environment.packages / "pytriton" / "tritonserver"
        # The stub takes the first python3 of PATH for its own, and that one's numpy. With numpy 2, which it was not
        # built for, it does not fail: it corrupts tensors.
        self._variables = {
            "PATH": f"{environment.python.parent}{os.pathsep}{os.environ['PATH']}",
            "LD_LIBRARY_PATH": _library_folder(),
        }

    @staticmethod
    def complete(packages: Path) -> None:
        """Put the stub for this Python to where Triton's Python backend looks for it."""
        version = sysconfig.get_python_version()
        backend = packages / "pytriton" / "tritonserver" / "backends" / "python"
        (backend / STUB).hardlink_to(packages / "pytriton" / "tritonserver" / "python_backend_stubs" / version / STUB)

    @contextmanager
    def launch(self, folder: Path, models: Sequence[str]) -> Iterator[Instance]:
        """Run the server and wait until the models are loaded; models for demand lie in the repository as well."""
        for name in {*models, *LOADED_ON_DEMAND}:
            lay_out(folder / name / "1", "triton.py")
        rest, grpc, metrics = free_port(), free_port(), free_port()
        restriction = f"logging:{'='.join(ADMIN_HEADER)}"
        command = [
            str(self._server / "bin" / "tritonserver"),
            f"--model-repository={folder}",
            f"--backend-directory={self._server / 'backends'}",
            f"--cache-directory={self._server / 'caches'}",
            "--model-control-mode=explicit",
            *(f"--load-model={name}" for name in models),
            *(f"--{port}-address=127.0.0.1" for port in ("http", "grpc", "metrics")),
            f"--http-port={rest}",
            f"--grpc-port={grpc}",
            f"--metrics-port={metrics}",
            f"--http-restricted-api={restriction}",
            f"--grpc-restricted-protocol={restriction}",
            "--exit-timeout-secs=10",
        ]
        with running(command, folder / "triton.log", self._variables) as process:
            wait_for(process, f"http://127.0.0.1:{rest}/v2/health/ready")
            yield Instance(self, folder, f"127.0.0.1:{rest}", f"127.0.0.1:{grpc}", [process])

    @contextmanager
    def loading(self, folder: Path, model: str) -> Iterator[Instance]:
        """Run the server without models, and load one: during its own start it doesn't listen."""
        with (
            self.launch(folder, []) as instance,
            tritonclient.grpc.InferenceServerClient(instance.grpc) as client,
            in_background(lambda: client.load_model(model)),
        ):
            eventually(
                lambda: any(entry.state == "LOADING" for entry in client.get_model_repository_index().models),
                "the repository says LOADING",
            )
            yield instance


def _library_folder() -> str:
    """Return where the shared libpython is that Triton's stub is linked to."""
    folder, library = sysconfig.get_config_vars("LIBDIR", "INSTSONAME")
    if not Path(folder, library).exists() or ".so" not in library:
        raise FileNotFoundError(
            f"{library} is no shared library in {folder}: Triton's Python backend needs a shared libpython"
        )
    return str(folder)

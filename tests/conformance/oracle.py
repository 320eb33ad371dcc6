"""Triton Inference Server, from NVIDIA's wheel: what this project is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import tritonclient.grpc

from polyglot_platform.triton import Triton
from tests.component.processes import free_port, running, wait_for
from tests.conformance.models.definitions import LOADED_ON_DEMAND
from tests.conformance.targets import ADMIN_HEADER, Instance, eventually, in_background, lay_out


class TritonServer:
    """`tritonserver` with a model folder and explicit model control."""

    name = "triton"

    def __init__(self, triton: Triton) -> None:
        self._triton = triton

    @contextmanager
    def launch(self, folder: Path, models: Sequence[str]) -> Iterator[Instance]:
        """Run the server and wait until the models are loaded; models for demand lie in the repository as well."""
        for name in {*models, *LOADED_ON_DEMAND}:
            lay_out(folder / name / "1", "triton.py")
        rest, grpc, metrics = free_port(), free_port(), free_port()
        restriction = f"logging:{'='.join(ADMIN_HEADER)}"
        command = [
            *self._triton.command,
            f"--model-repository={folder}",
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
        with running(command, folder / "triton.log", self._triton.variables) as process:
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

"""MLServer and KServe, each as its documentation has a model in Python served."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from polyglot_platform.environments import Environment
from tests.component.processes import free_port, running, wait_for, wait_until
from tests.conformance.models.definitions import DEFINITIONS
from tests.conformance.targets import Instance, lay_out, reached


class MLServer:
    """`mlserver start` with a folder of models.

    Parallel workers are off: with them version 1.7.1 does not start under uvloop.
    """

    name = "mlserver"

    def __init__(self, environment: Environment) -> None:
        self._python = environment.python

    @contextmanager
    def launch(self, folder: Path, models: Sequence[str]) -> Iterator[Instance]:
        """Run the server and wait until the models are loaded."""
        with self._started(folder, models) as instance:
            wait_for(instance.processes[0], f"http://{instance.rest}/v2/health/ready")
            yield instance

    @contextmanager
    def loading(self, folder: Path, model: str) -> Iterator[Instance]:
        """Run the server and wait until it can be asked."""
        with self._started(folder, [model]) as instance:
            wait_until(lambda: reached(instance.grpc, model), instance.processes)
            yield instance

    @contextmanager
    def _started(self, folder: Path, models: Sequence[str]) -> Iterator[Instance]:
        for name in models:
            if name == "identity-bf16":
                continue  # a datatype that it can't declare, and it ends when one model can't be loaded
            lay_out(folder / name, "mlserver.py")
            settings = {"name": name, "implementation": "model.Model", "parameters": {"uri": ".", "version": "1"}}
            (folder / name / "model-settings.json").write_text(json.dumps(settings))
        rest, grpc, metrics = free_port(), free_port(), free_port()
        ports = {"http_port": rest, "grpc_port": grpc, "metrics_port": metrics}
        (folder / "settings.json").write_text(json.dumps({"host": "127.0.0.1", "parallel_workers": 0, **ports}))
        command = [str(self._python.with_name("mlserver")), "start", str(folder)]
        with running(command, folder / "mlserver.log") as process:
            yield Instance(self, folder, f"127.0.0.1:{rest}", f"127.0.0.1:{grpc}", [process])


class KServe:
    """`kserve.ModelServer` with a `kserve.Model` for each model, which answer once."""

    name = "kserve"

    def __init__(self, environment: Environment) -> None:
        self._python = environment.python

    @contextmanager
    def launch(self, folder: Path, models: Sequence[str]) -> Iterator[Instance]:
        """Run the server and wait until the models are loaded."""
        with self._started(folder, [name for name in models if DEFINITIONS[name].predict]) as instance:
            wait_for(instance.processes[0], f"http://{instance.rest}/v2/health/ready")
            yield instance

    @contextmanager
    def loading(self, folder: Path, model: str) -> Iterator[Instance]:
        """Run the server and wait until it can be asked: models are loaded before it listens."""
        with self._started(folder, [model]) as instance:
            wait_until(lambda: reached(instance.grpc, model), instance.processes)
            yield instance

    @contextmanager
    def _started(self, folder: Path, models: Sequence[str]) -> Iterator[Instance]:
        lay_out(folder / "server", "kserve.py")
        for name in models:
            (folder / name).mkdir()
        rest, grpc = free_port(), free_port()
        options = [f"--http_port={rest}", f"--grpc_port={grpc}", "--enable_latency_logging=false"]
        command = [str(self._python), str(folder / "server" / "model.py"), str(folder), *models, *options]
        with running(command, folder / "kserve.log") as process:
            yield Instance(self, folder, f"127.0.0.1:{rest}", f"127.0.0.1:{grpc}", [process])

"""The servers that are measured, each started with the same models. Here: this project's two."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from tests.component.processes import Process, free_port, running, wait_until, write_yaml
from tests.conformance.models.definitions import DEFINITIONS, EXECUTIONS, LOADED_ON_DEMAND

HERE = Path(__file__).parent
MAX_MESSAGE_BYTES = 16 << 20
"""The limit on messages, where a server has one."""
ADMIN_HEADER = ("x-admin", "conformance")
"""What the log settings ask for, where a server can restrict them."""
ADMINISTRATION = {
    "mode": "Full",
    "restricted": [{"apis": ["logging"], "header": ADMIN_HEADER[0], "value": ADMIN_HEADER[1]}],
}
"""What callers may do at our own servers."""


@dataclass
class Instance:
    """A running server. `rest` is empty where there is no REST port; addresses are host:port."""

    target: Target
    folder: Path
    rest: str
    grpc: str
    processes: Sequence[Process]
    found: dict[str, dict[str, str | None]] = field(default_factory=dict)
    """What clients in other processes found, by client."""

    def executions(self, model: str = "slow") -> list[str]:
        """Return the names of all calls that the model has begun."""
        log = self.folder / model / EXECUTIONS
        return log.read_text().split() if log.exists() else []

    def terminate(self) -> None:
        """Send every process SIGTERM."""
        for process in self.processes:
            process.popen.terminate()

    def ended(self) -> bool:
        """Whether every process has ended."""
        return all(process.popen.poll() is not None for process in self.processes)


class Target(Protocol):
    """A kind of server."""

    name: str

    def launch(self, folder: Path, models: Sequence[str]) -> AbstractContextManager[Instance]:
        """Run a server, ready with these models, for the length of a block."""

    def loading(self, folder: Path, model: str) -> AbstractContextManager[Instance]:
        """Run a server that is loading this model when the block begins."""


def eventually(condition: Callable[[], bool], what: str, within: float = 20) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within:.0f} s: {what}"
        time.sleep(0.02)


class Polyglot:
    """Gateway and inference server, measured at the gateway's ports or at the server's own."""

    def __init__(self, name: str, gateway: Path | None) -> None:
        self.name = name
        self._gateway = gateway

    @contextmanager
    def launch(self, folder: Path, models: Sequence[str]) -> Iterator[Instance]:
        """Run the processes and wait until they are ready."""
        with self._started(folder, models) as instance:
            wait_until(lambda: _ready(instance.grpc), instance.processes)
            yield instance

    @contextmanager
    def loading(self, folder: Path, model: str) -> Iterator[Instance]:
        """Run the processes and wait until the inference server can be asked."""
        with self._started(folder, [model]) as instance:
            wait_until(lambda: reached(instance.grpc, model), instance.processes)
            yield instance

    @contextmanager
    def _started(self, folder: Path, models: Sequence[str]) -> Iterator[Instance]:
        folder.mkdir(parents=True, exist_ok=True)
        for name in models:
            lay_out(folder / name, "polyglot.py")
        # Memory can be shared over a Unix socket only.
        metrics, socket = free_port(), folder / "inference.sock"
        listen = f"unix:{socket}" if self._gateway else f"127.0.0.1:{free_port()}"
        config = write_yaml(
            folder / "inference.yaml",
            {
                "models": [{"name": name, "format": "Python", "path": str(folder / name)} for name in models],
                "grpc": {"listen": [listen], "maxMessageBytes": MAX_MESSAGE_BYTES},
                "metrics": {"host": "127.0.0.1", "port": metrics},
                "administration": ADMINISTRATION,
                "sharedMemory": {"enabled": True, "keyPrefix": "/conformance-"},
            },
        )
        command = [str(Path(sys.executable).parent / "polyglot-inference"), "--config", str(config)]
        with running(command, folder / "inference.log") as inference:
            if self._gateway is None:
                yield Instance(self, folder, "", listen, [inference])
                return
            rest, grpc, admin = (f"127.0.0.1:{free_port()}" for _ in range(3))
            config = write_yaml(
                folder / "gateway.yaml",
                {
                    "listen": {"rest": rest, "grpc": grpc, "admin": admin},
                    "backend": {"sockets": [str(socket)]},
                    "sharedMemory": {"enabled": True},
                    "limits": {"maxRequestBytes": MAX_MESSAGE_BYTES, "defaultTimeout": "30s"},
                    "drain": {"timeout": "10s"},
                    "administration": ADMINISTRATION,
                },
            )
            with running([str(self._gateway), "--config", str(config)], folder / "gateway.log") as gateway:
                yield Instance(self, folder, rest, grpc, [gateway, inference])


def lay_out(folder: Path, adapter: str) -> None:
    """Write a model's folder: the definitions beside the adapter for one kind of server, as model.py."""
    folder.mkdir(parents=True)
    shutil.copy(HERE / "models" / "definitions.py", folder)
    shutil.copy(HERE / "models" / adapter, folder / "model.py")


def startup_models() -> list[str]:
    """Return the models that a server has from the start."""
    return [name for name in DEFINITIONS if name not in LOADED_ON_DEMAND]


def _ready(address: str) -> bool:
    with tritonclient.grpc.InferenceServerClient(address) as client:
        try:
            return bool(client.is_server_ready(client_timeout=2))
        except InferenceServerException:
            return False  # not listening yet


def reached(address: str, model: str) -> bool:
    """Whether somebody answers for a model, be it with no."""
    with tritonclient.grpc.InferenceServerClient(address) as client:
        try:
            client.is_model_ready(model, client_timeout=2)
        except InferenceServerException:
            return False  # not listening yet
        return True


@contextmanager
def in_background(work: Callable[[], object]) -> Iterator[Callable[[], None]]:
    """Run something beside the block, which gets a function that waits for its end and raises what it raised."""
    failures: list[Exception] = []

    def guarded() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            failures.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()

    def joined() -> None:
        thread.join(60)
        assert not thread.is_alive(), "still running after 60 s"
        for failure in failures:
            raise failure

    try:
        yield joined
    finally:
        thread.join(60)

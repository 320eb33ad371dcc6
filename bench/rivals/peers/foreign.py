"""The foreign servers, each from PyPI in an environment of its own, configured as its documentation does."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from bench.processes import free_ports, program
from bench.rivals.peers.base import (
    BATCH,
    ONE,
    ONE_BATCHED,
    QUIET,
    TWO,
    TWO_BATCHED,
    Endpoint,
    Running,
    Variant,
)
from bench.rivals.wire import OIP_BINARY, OIP_GRPC, OIP_JSON, OIP_STREAM, Wire, own_json
from bench.rivals.workloads import Workload
from polyglot_platform.environments import Environment, environment
from polyglot_platform.triton import Triton, python_library_folder

SERVERS = Path(__file__).parents[1] / "servers"


@dataclass(frozen=True)
class Launch:
    """All that a command line is made of."""

    environment: Environment
    variant: Variant
    workload: Workload
    folder: Path
    rest: int
    grpc: int
    metrics: int

    @property
    def python(self) -> str:
        """Return the interpreter."""
        return str(self.environment.python)

    def script(self, name: str) -> str:
        """Return a script that the environment's packages installed."""
        return str(self.environment.python.with_name(name))


@dataclass(frozen=True)
class PipPeer:
    """A server from PyPI."""

    name: str
    title: str
    package: str
    note: str
    variants: Sequence[Variant]
    command: Callable[[Launch], list[str]]
    rest: Sequence[Wire] = ()
    grpc: Sequence[Wire] = ()
    #: How it is installed, where its lock file alone doesn't do.
    install: Callable[[], Environment] | None = None
    variables: Callable[[Environment], Mapping[str, str]] = field(default=lambda _: {})

    @cached_property
    def installed(self) -> Environment:
        """Return its environment, installed now unless the cache has it."""
        return self.install() if self.install else environment(self.name)

    @property
    def version(self) -> str:
        """Return the version of its package."""
        (found,) = importlib.metadata.distributions(name=self.package, path=[str(self.installed.packages)])
        return found.version

    @property
    def protocols(self) -> list[str]:
        """Return what it speaks."""
        return [wire.protocol for wire in (*self.rest, *self.grpc)]

    @contextmanager
    def launch(self, variant: Variant, workload: Workload, folder: Path) -> Iterator[Running]:
        """Run it for the length of a block."""
        rest, grpc, metrics = free_ports(3)
        launch = Launch(self.installed, variant, workload, folder, rest, grpc, metrics)
        variables = {
            **QUIET,
            "PYTHONPATH": str(SERVERS),
            "RIVAL_MODEL": workload.model,
            "RIVAL_FILE": str(workload.file or ""),
            "RIVAL_PORT": str(rest),
            "RIVAL_GRPC_PORT": str(grpc),
            "RIVAL_METRICS_PORT": str(metrics),
            "RIVAL_WORKERS": str(variant.workers),
            "RIVAL_BATCH": str(BATCH if variant.batching else 1),
            "RIVAL_THREADS": str(variant.threads),
            **self.variables(self.installed),
        }
        with program(self.command(launch), folder / f"{self.name}.log", variables) as server:
            endpoints = [Endpoint(f"127.0.0.1:{rest}", wire) for wire in self.rest]
            endpoints += [Endpoint(f"127.0.0.1:{grpc}", wire) for wire in self.grpc]
            yield Running({"server": server}, endpoints)


def _mlserver(launch: Launch) -> list[str]:
    parallel = {"parallel_workers": launch.variant.workers if launch.variant.workers > 1 else 0}
    ports = {"http_port": launch.rest, "grpc_port": launch.grpc, "metrics_port": launch.metrics}
    settings = {"host": "127.0.0.1", "debug": False, **parallel, **ports}
    (launch.folder / "settings.json").write_text(json.dumps(settings))
    model = {"name": launch.workload.model, "implementation": "mlserver_model.Model"}
    batching = {"max_batch_size": BATCH, "max_batch_time": 0.002} if launch.variant.batching else {}
    (launch.folder / "model-settings.json").write_text(json.dumps(model | batching))
    return [launch.script("mlserver"), "start", str(launch.folder)]


def _kserve(launch: Launch) -> list[str]:
    ports = [f"--http_port={launch.rest}", f"--grpc_port={launch.grpc}"]
    quiet = ["--enable_latency_logging=false"]
    return [launch.python, str(SERVERS / "kserve_server.py"), *ports, f"--workers={launch.variant.workers}", *quiet]


def _triton(launch: Launch) -> list[str]:
    model = launch.folder / "models" / launch.workload.model
    (model / "1").mkdir(parents=True)
    shutil.copy(SERVERS / "triton_model.py", model / "1" / "model.py")
    shutil.copy(SERVERS / "served.py", model / "1")  # its stub has a path of its own, without PYTHONPATH's folders
    (model / "config.pbtxt").write_text(
        f'backend: "python"\ninstance_group [{{ kind: KIND_CPU count: {launch.variant.workers} }}]\n'
    )
    return [
        *Triton(launch.environment).command,
        f"--model-repository={launch.folder / 'models'}",
        *(f"--{port}-address=127.0.0.1" for port in ("http", "grpc", "metrics")),
        f"--http-port={launch.rest}",
        f"--grpc-port={launch.grpc}",
        f"--metrics-port={launch.metrics}",
    ]


def _bentoml(launch: Launch) -> list[str]:
    options = ["--working-dir", str(SERVERS), "--host", "127.0.0.1", "--port", str(launch.rest)]
    return [launch.script("bentoml"), "serve", "bentoml_service:Served", *options]


def _fastapi(launch: Launch) -> list[str]:
    options = ["--host=127.0.0.1", f"--port={launch.rest}", "--no-access-log", "--log-level=warning"]
    return [launch.script("uvicorn"), "fastapi_app:app", *options, f"--workers={launch.variant.workers}"]


def _server(file: str) -> Callable[[Launch], list[str]]:
    return lambda launch: [launch.python, str(SERVERS / file)]


PEERS = (
    PipPeer(
        "mlserver",
        "MLServer",
        "mlserver",
        "1 worker: in the server's process (`parallel_workers` 0); 2 workers: `parallel_workers` 2; adaptive batching"
        " 32 rows / 2 ms, or none; no binary tensors over REST",
        (ONE, ONE_BATCHED, TWO),
        _mlserver,
        rest=(OIP_JSON,),
        grpc=(OIP_GRPC,),
    ),
    PipPeer(
        "kserve",
        "KServe",
        "kserve",
        "`kserve.ModelServer`, `--workers` 1 or 2; its batching is another process, in Go, not this server's",
        (ONE, TWO),
        _kserve,
        rest=(OIP_JSON, OIP_BINARY),
        grpc=(OIP_GRPC,),
    ),
    PipPeer(
        "litserve",
        "LitServe",
        "litserve",
        "`workers_per_device` 1 or 2, `max_batch_size` 32 / 2 ms or none; JSON of its own",
        (ONE, ONE_BATCHED, TWO_BATCHED),
        _server("litserve_server.py"),
        rest=(own_json("input", "output"),),
    ),
    PipPeer(
        "bentoml",
        "BentoML",
        "bentoml",
        "`workers` 1 or 2, batchable up to 32 or not; JSON of its own",
        (ONE, ONE_BATCHED, TWO_BATCHED),
        _bentoml,
        rest=(own_json("x", None),),
    ),
    PipPeer(
        "ray",
        "Ray Serve",
        "ray",
        "1 or 2 replicas, `serve.batch` 32 / 2 ms or none, dashboard and access log off; JSON of its own",
        (ONE, ONE_BATCHED, TWO),
        _server("ray_app.py"),
        rest=(own_json("input", "output"),),
    ),
    PipPeer(
        "pytriton",
        "PyTriton",
        "nvidia-pytriton",
        "Triton with a function of Python, as PyTriton's guide has it: `@batch`, `max_batch_size` 64, `DynamicBatcher`"
        " without delay, `strict` off, 1 or 2 instances",
        (ONE_BATCHED, TWO_BATCHED),
        _server("pytriton_server.py"),
        rest=(OIP_JSON, OIP_BINARY),
        grpc=(OIP_GRPC,),
        variables=lambda _: {"LD_LIBRARY_PATH": python_library_folder()},
    ),
    PipPeer(
        "triton",
        "Triton without PyTriton",
        "nvidia-pytriton",
        "the `tritonserver` of PyTriton's wheel alone, the model in its own Python backend: 1 or 2 instances, dynamic"
        " batching up to 32 without delay, or none",
        (ONE, ONE_BATCHED, TWO_BATCHED),
        _triton,
        rest=(OIP_JSON, OIP_BINARY),
        grpc=(OIP_GRPC,),
        install=lambda: Triton.installed().environment,
        variables=lambda environment: Triton(environment).variables,
    ),
    PipPeer(
        "fastapi",
        "FastAPI + orjson, by hand",
        "fastapi",
        "uvicorn with httptools and uvloop, `--workers` 1 or 2, the protocol's JSON without its checks",
        (ONE, TWO),
        _fastapi,
        rest=(OIP_JSON,),
    ),
    PipPeer(
        "grpc-aio",
        "grpc.aio, by hand",
        "grpcio",
        "uvloop, the protocol's messages without its checks, a process per worker on one port",
        (ONE, TWO),
        _server("grpc_server.py"),
        grpc=(OIP_GRPC, OIP_STREAM),
    ),
)

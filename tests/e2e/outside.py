"""A second operator, run outside of the cluster behind a relay, so that its connections can be frozen.

It serves a namespace of its own beside the installed operator, with which it agrees on everything: two that apply the
same change nothing. It may read the mesh's configuration too, or else it would judge the cluster differently.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import yaml

from tests.e2e.cluster import bound
from tests.e2e.operator_pod import Samples, samples
from tests.http import Reply, call

MESH_NAMESPACE: Final = "istio-system"
_POLYGLOT: Final = Path(sys.executable).with_name("polyglot")


class Relay:
    """Passes TCP connections on to one address, byte by byte, until it is frozen; frozen ones stay open and silent."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._flowing = threading.Event()
        self._flowing.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self) -> None:
        """Pass nothing on, in either direction; nobody is told."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Go on where it was frozen."""
        self._flowing.set()

    def close(self) -> None:
        """End all connections."""
        self.thaw()
        for each in (self._listener, *self._sockets):
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
            except OSError:
                return  # closed
            self._sockets += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self._flowing.wait()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return  # one side has gone


@dataclass(frozen=True)
class OutsideOperator:
    """A running process; `name` is that of its spans' service."""

    name: str
    namespace: str
    relay: Relay
    health_port: int
    metrics_port: int

    def health(self) -> Reply:
        """Ask as the kubelet does."""
        return call(f"http://127.0.0.1:{self.health_port}/healthz")

    def metrics(self) -> Samples:
        """Return its metrics by name."""
        return samples(call(f"http://127.0.0.1:{self.metrics_port}/metrics").body.decode())


@contextmanager
def outside_operator(
    context: str, namespace: str, images: dict[str, str], folder: Path, spans: str
) -> Iterator[OutsideOperator]:
    """Run an operator for one namespace behind a relay; its spans go to the OTLP receiver `spans`."""
    config = yaml.safe_load(bound("kubectl", "--context", context)("config", "view", "--minify", "--raw"))
    (cluster,) = config["clusters"]
    server = urlsplit(cluster["cluster"]["server"])
    relay = Relay((str(server.hostname), int(server.port or 443)))
    cluster["cluster"]["server"] = f"https://127.0.0.1:{relay.port}"
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    operator = OutsideOperator(f"operator-of-{namespace}", namespace, relay, free_port(), free_port())
    environment = {
        **os.environ,
        "KUBECONFIG": str(kubeconfig),
        "POLYGLOT_CONTEXT": context,
        "POLYGLOT_NAMESPACES": f"{namespace},{MESH_NAMESPACE}",
        "POLYGLOT_GATEWAY_IMAGE": images["GATEWAY_IMAGE"],
        "POLYGLOT_INFERENCE_IMAGE": images["INFERENCE_IMAGE"],
        "POLYGLOT_HEALTH_PORT": str(operator.health_port),
        "POLYGLOT_METRICS_PORT": str(operator.metrics_port),
        "OTEL_SERVICE_NAME": operator.name,
        "OTEL_EXPORTER_OTLP_ENDPOINT": spans,
    }
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen([str(_POLYGLOT), "run"], env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield operator
            assert process.poll() is None, f"the outside operator has ended:\n{log.read_text()[-2000:]}"
        finally:
            relay.thaw()
            process.terminate()
            process.wait(timeout=60)
            relay.close()


@contextmanager
def jaeger_receiver(context: str) -> Iterator[str]:
    """Forward a port of this machine to Jaeger's OTLP receiver; return its address."""
    words = ("port-forward", "-n", "observability", "service/jaeger", "--address", "127.0.0.1", ":4317")
    command = ["kubectl", "--context", context, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://{process.stdout.readline().split()[2]}"  # Forwarding from 127.0.0.1:40001 -> 4317
        finally:
            process.terminate()


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

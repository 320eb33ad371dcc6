"""What the cluster needs beside Kubernetes: applied together, waited for once."""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyglot_platform import components as c
from polyglot_platform import pins, recipes
from polyglot_platform.cluster import Cluster
from polyglot_platform.errors import CommandError, PlatformError
from polyglot_platform.images import Images
from polyglot_platform.places import Places
from polyglot_platform.process import run
from polyglot_platform.progress import Progress
from polyglot_platform.readiness import unready
from polyglot_platform.workshop import Workshop

READY_SECONDS = 180

BARE_WORKLOADS = (("kube-system", "deployment/coredns"),)

WORKLOADS = (
    *BARE_WORKLOADS,
    ("istio-system", "deployment/istiod"),
    ("observability", "deployment/jaeger"),
    ("kube-system", "deployment/metrics-server"),
    ("kube-system", "daemonset/device-plugin"),
)
"""What must be rolled out before the cluster counts as up."""


@dataclass(frozen=True)
class AddonImages:
    """References that the manifests get; the only thing that differs between the sources."""

    pilot: str
    proxy: str
    jaeger: str
    metrics_server: str
    device_plugin: str


def upstream_images(device_plugin: str) -> AddonImages:
    """The released images; the device plugin is always ours."""
    return AddonImages(
        pilot=f"docker.io/istio/pilot:{pins.ISTIO}",
        proxy=f"docker.io/istio/proxyv2:{pins.ISTIO}",
        jaeger=f"docker.io/jaegertracing/jaeger:{pins.JAEGER}",
        metrics_server=f"registry.k8s.io/metrics-server/metrics-server:{pins.METRICS_SERVER}",
        device_plugin=device_plugin,
    )


def built_images(images: Images, device_plugin: str) -> AddonImages:
    """The images that this repository's recipes give."""
    return AddonImages(
        pilot=images.reference(recipes.PILOT),
        proxy=images.reference(recipes.PROXY),
        jaeger=images.reference(recipes.JAEGER),
        metrics_server=images.reference(recipes.METRICS_SERVER),
        device_plugin=device_plugin,
    )


class Addons:
    """Applies the add-ons of `platform/addons` to one cluster."""

    def __init__(self, places: Places, progress: Progress, workshop: Workshop, cluster: Cluster) -> None:
        self._places = places
        self._progress = progress
        self._workshop = workshop
        self._cluster = cluster

    def apply(self, names: AddonImages) -> None:
        """Bring every add-on to its declared state and wait until all of them serve on the running node."""
        with ThreadPoolExecutor() as pool:
            jobs = [
                pool.submit(self.apply_istio, names),
                pool.submit(self._apply_manifest, "jaeger", names.jaeger),
                pool.submit(self._apply_manifest, "device-plugin", names.device_plugin),
                pool.submit(self._apply_metrics_server, names),
                pool.submit(self._scale_coredns),
            ]
            for job in jobs:
                job.result()
        with self._progress.step("add-ons", "ready"):
            self._wait(WORKLOADS)

    def apply_none(self) -> None:
        """Bring the bare cluster to its declared state, and wait until what Kubernetes itself brings along serves."""
        self._scale_coredns()
        with self._progress.step("coredns", "ready"):
            self._wait(BARE_WORKLOADS)

    def apply_istio(self, names: AddonImages) -> None:
        """Install or upgrade Istio and wait for istiod."""
        settings = {
            "values.pilot.image": names.pilot,
            "values.global.proxy.image": names.proxy,
            "values.global.proxy_init.image": names.proxy,
        }
        command = ["istioctl", "install", "--context", self._cluster.name.context, "--skip-confirmation"]
        options = ["--filename", str(self._folder("istio") / "values.yaml")]
        options += [f"--set={name}={image}" for name, image in settings.items()]
        with self._progress.step(f"istio {pins.ISTIO}", "applied, istiod ready"):
            self._run("istio", [*command, *options])

    def _apply_manifest(self, name: str, image: str) -> None:
        manifest = (self._folder(name) / "manifest.yaml").read_text()
        placeholder = f"polyglot/{name}:local"
        if placeholder not in manifest:
            raise PlatformError(
                f"platform/addons/{name}/manifest.yaml names no image {placeholder}",
                "name it there: the platform puts the image of the chosen source in its place",
            )
        with self._progress.step(name, "applied"):
            apply = ["apply", "--server-side", "--force-conflicts", "--filename=-"]
            self._kubectl(name, *apply, text_in=manifest.replace(placeholder, image))

    def _apply_metrics_server(self, names: AddonImages) -> None:
        (module,) = self._workshop.ensure([c.METRICS_SERVER_CHART])
        repository, _, tag = names.metrics_server.rpartition(":")
        command = ["helm", "upgrade", "--install", "metrics-server", str(module / "charts" / "metrics-server")]
        options = [
            *("--kube-context", self._cluster.name.context, "--namespace", "kube-system"),
            *("--values", str(self._folder("metrics-server") / "values.yaml")),
            *("--set", f"image.repository={repository}", "--set", f"image.tag={tag}"),
        ]
        # metrics-server exits when the API server's service address does not answer, and is then started ever later.
        self._kubectl("metrics-server", "--namespace=kube-system", "rollout", "status", "daemonset/kube-proxy")
        with self._progress.step(f"metrics-server {pins.METRICS_SERVER}", "applied"):
            self._run("metrics-server", [*command, *options])

    def _scale_coredns(self) -> None:
        """One node needs one; the second would take a tenth of a CPU from the demo."""
        self._kubectl("coredns", "--namespace=kube-system", "scale", "deployment/coredns", "--replicas=1")

    def _wait(self, workloads: Sequence[tuple[str, str]]) -> None:
        """Wait until the workloads are rolled out, and every pod beside them is ready on the running node."""
        node_start = self._cluster.started_at()
        deadline = time.monotonic() + READY_SECONDS
        for namespace, workload in workloads:
            left = max(1, int(deadline - time.monotonic()))
            status = ["rollout", "status", workload, f"--timeout={left}s"]
            try:
                self._kubectl("wait", f"--namespace={namespace}", *status)
            except CommandError as failure:
                raise self._not_ready(f"{namespace}/{workload}: {failure.output.strip()}") from failure
        while waiting := unready(self._pods({namespace for namespace, _ in workloads}), node_start):
            if time.monotonic() > deadline:
                raise self._not_ready(", ".join(waiting))
            time.sleep(0.3)

    def _pods(self, namespaces: set[str]) -> list[dict[str, Any]]:
        pods: list[dict[str, Any]] = []
        for namespace in sorted(namespaces):
            listing = self._kubectl(None, f"--namespace={namespace}", "get", "pods", "--output=json")
            pods += json.loads(listing)["items"]
        return pods

    def _kubectl(self, log: str | None, *words: str, text_in: str | None = None) -> str:
        return self._run(log, ["kubectl", "--context", self._cluster.name.context, *words], text_in)

    def _run(self, log: str | None, command: list[str], text_in: str | None = None) -> str:
        """Run a tool of .bin; with `log`, its output is kept under the add-on's name."""
        program = str(self._places.bin / command[0])
        file = self._places.log(f"addon-{log}") if log else None
        return run([program, *command[1:]], log=file, text_in=text_in)

    def _folder(self, name: str) -> Path:
        return self._places.platform / "addons" / name

    def _not_ready(self, what: str) -> PlatformError:
        name = self._cluster.name
        return PlatformError(
            f"not ready after {READY_SECONDS} s: {what}",
            f"look at it with `kubectl --context {name.context} describe`; "
            f"`make cluster{name.arguments}` goes on from here",
        )

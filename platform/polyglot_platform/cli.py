"""The commands behind the Makefile's targets."""

import argparse
import errno
import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from polyglot_platform import debian, engine, kind_config, tools
from polyglot_platform.addons import AddonImages, Addons, built_images, upstream_images
from polyglot_platform.cluster import Cluster, ClusterName
from polyglot_platform.errors import PlatformError
from polyglot_platform.images import Images
from polyglot_platform.node import NodeImage
from polyglot_platform.places import Places
from polyglot_platform.progress import Progress
from polyglot_platform.project_images import DEVICE_PLUGIN, ProjectImages
from polyglot_platform.source import Source, choose
from polyglot_platform.workshop import Workshop

REMEDIES = {
    errno.ENOSPC: "free disk space (`docker system prune`, `go clean -cache`), then run this again",
    errno.EACCES: "correct the permissions, or run this as the user who owns the file",
}


class Platform:
    """What every command works on."""

    def __init__(self, environment: Mapping[str, str], name: ClusterName = ClusterName.MAIN) -> None:
        self.environment = environment
        self.places = Places.of(environment)
        self.progress = Progress()
        self.workshop = Workshop(self.places, self.progress)
        self.images = Images(self.places, self.progress, self.workshop)
        self.cluster = Cluster(self.places, self.progress, name)
        self.addons = Addons(self.places, self.progress, self.workshop, self.cluster)

    def source(self) -> Source:
        """Where images come from; the engine runs afterwards, since it is what asks the registry."""
        engine.ensure(self.places, self.progress)
        source = choose(self.environment)
        self.progress.say("images from", source.value)
        return source

    def project_images(self, source: Source) -> ProjectImages:
        """The images of this project on bases from `source`."""
        return ProjectImages(self.places, self.progress, self.images, source)

    def addon_images(self, source: Source) -> AddonImages:
        """The add-ons' images from `source`; the device plugin is built here."""
        (device_plugin,) = self.project_images(source).ensure([DEVICE_PLUGIN])
        return upstream_images(device_plugin) if source is Source.REGISTRY else built_images(self.images, device_plugin)


def install_tools(platform: Platform) -> None:
    """Build the command-line tools and link them into .bin."""
    tools.link(platform.places, platform.progress, platform.workshop)


def install_bench_tools(platform: Platform) -> None:
    """Install h2load, the load generator of `make bench-rivals`, from Debian where it is missing."""
    if not shutil.which("h2load"):
        debian.install_on_host("nghttp2-client", platform.places.log("bench-tools"))


def cluster_up(platform: Platform) -> None:
    """Create or repair the cluster and its add-ons."""
    source = platform.source()
    install_tools(platform)
    config = kind_config.load(platform.places.kind_config)
    bare = platform.cluster.name is ClusterName.BARE
    if bare:
        config = kind_config.for_bare(config, ClusterName.BARE.value)
    if source is Source.SOURCE:
        node_image = NodeImage(platform.places, platform.progress, platform.images).ensure()
        platform.cluster.ensure(node_image, kind_config.for_source(config))
    else:
        platform.cluster.ensure(None, config)
    if bare:
        platform.addons.apply_none()
        return
    names = platform.addon_images(source)
    platform.cluster.load([names.device_plugin] if source is Source.REGISTRY else list(vars(names).values()))
    platform.addons.apply(names)


def cluster_down(platform: Platform) -> None:
    """Delete the cluster, and the bare one with the main one; the engine and all caches stay."""
    if not engine.answers():
        raise PlatformError(
            "no Docker engine answers, so the cluster cannot be reached",
            "start the engine (`make cluster` does), then run this again",
        )
    install_tools(platform)
    for name in dict.fromkeys((ClusterName.BARE, platform.cluster.name)):
        Cluster(platform.places, platform.progress, name).delete()


def install_istio(platform: Platform) -> None:
    """Install Istio alone: what `cluster` leaves out of the bare cluster."""
    source = platform.source()
    install_tools(platform)
    names = platform.addon_images(source)
    if source is Source.SOURCE:
        platform.cluster.load([names.pilot, names.proxy])
    platform.addons.apply_istio(names)


def project_images(platform: Platform) -> None:
    """Build the operator, gateway and inference images, load them, write .bin/images.env."""
    source = platform.source()
    install_tools(platform)
    for name, reference in platform.project_images(source).publish(platform.cluster).items():
        platform.progress.say(name, reference)
    platform.images.evict()


def engine_stop(platform: Platform) -> None:
    """Stop the Docker engine if `cluster` started it."""
    engine.stop(platform.places, platform.progress)


def status(platform: Platform) -> None:
    """Say what runs."""
    running = engine.answers()
    platform.progress.say("docker engine", "answers" if running else "does not answer: `make cluster` starts one")
    if running:
        for name in ClusterName:
            platform.progress.say(f"cluster {name}", Cluster(platform.places, platform.progress, name).describe())


COMMANDS: Mapping[str, Callable[[Platform], None]] = {
    "tools": install_tools,
    "bench-tools": install_bench_tools,
    "cluster": cluster_up,
    "cluster-down": cluster_down,
    "images": project_images,
    "istio": install_istio,
    "engine-stop": engine_stop,
    "status": status,
}

ON_ONE_CLUSTER = frozenset({"cluster", "cluster-down", "images", "istio"})
"""Commands that take `--bare`."""


def main(arguments: Sequence[str]) -> int:
    """Run one command; problems a person can solve end in one message and status 1."""
    parser = argparse.ArgumentParser(prog="polyglot_platform", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, command in COMMANDS.items():
        each = commands.add_parser(name, help=command.__doc__)
        if name in ON_ONE_CLUSTER:
            each.add_argument("--bare", action="store_true", help=f"work on {ClusterName.BARE}, which has no add-ons")
    chosen = parser.parse_args(arguments)
    command = COMMANDS[chosen.command]
    platform = Platform(os.environ, ClusterName.BARE if getattr(chosen, "bare", False) else ClusterName.MAIN)
    try:
        if command is status:
            status(platform)
        else:
            with _alone(platform):
                command(platform)
    except PlatformError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in REMEDIES:
            raise
        print(f"error: {error}\n  → {REMEDIES[error.errno]}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        return 130
    return 0


@contextmanager
def _alone(platform: Platform) -> Iterator[None]:
    """Wait while another run works on the same cache: two builds of one thing would disturb each other."""
    platform.places.cache.mkdir(parents=True, exist_ok=True)
    with (platform.places.cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            platform.progress.say("another run", "is at work on the same cache: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield

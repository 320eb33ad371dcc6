"""The commands behind the Makefile's targets."""

import argparse
import fcntl
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from polyglot_platform import engine, kind_config, tools
from polyglot_platform.addons import Addons, built_images, upstream_images
from polyglot_platform.cluster import Cluster
from polyglot_platform.errors import PlatformError
from polyglot_platform.images import Images
from polyglot_platform.node import NodeImage
from polyglot_platform.places import Places
from polyglot_platform.progress import Progress
from polyglot_platform.project_images import DEVICE_PLUGIN, ProjectImages
from polyglot_platform.source import Source, choose
from polyglot_platform.workshop import Workshop


class Platform:
    """One run of one command, with everything it works on."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.places = Places.of(environment)
        self.progress = Progress()
        self.workshop = Workshop(self.places, self.progress)
        self.images_of_ours = Images(self.places, self.progress, self.workshop)
        self.kind_cluster = Cluster(self.places, self.progress)

    def tools(self) -> None:
        """Build the command-line tools and link them into .bin."""
        tools.link(self.places, self.progress, self.workshop)

    def cluster(self) -> None:
        """Create or repair the cluster and its add-ons."""
        source = self._source()
        self.tools()
        config = kind_config.load(self.places.kind_config)
        (device_plugin,) = self._project_images(source).ensure([DEVICE_PLUGIN])
        if source is Source.SOURCE:
            node_image = NodeImage(self.places, self.progress, self.images_of_ours).ensure()
            self.kind_cluster.ensure(node_image, kind_config.for_source(config))
            names = built_images(self.images_of_ours, device_plugin)
            self.kind_cluster.load(list(vars(names).values()))
        else:
            self.kind_cluster.ensure(None, config)
            names = upstream_images(device_plugin)
            self.kind_cluster.load([device_plugin])
        Addons(self.places, self.progress, self.workshop).apply(names, self.kind_cluster.started_at())

    def images(self) -> None:
        """Build the operator, gateway and inference images, load them, write .bin/images.env."""
        source = self._source()
        for name, reference in self._project_images(source).publish(self.kind_cluster).items():
            self.progress.say(name, reference)
        self.images_of_ours.evict()

    def cluster_down(self) -> None:
        """Delete the cluster; the engine and all caches stay."""
        if not engine.answers():
            raise PlatformError("no Docker engine answers, so there is no cluster to reach", "run `make cluster` first")
        self.tools()
        self.kind_cluster.delete()

    def engine_stop(self) -> None:
        """Stop the Docker engine if `cluster` started it."""
        engine.stop(self.places, self.progress)

    def status(self) -> None:
        """Say what runs."""
        running = engine.answers()
        self.progress.say("docker engine", "answers" if running else "does not answer: `make cluster` starts one")
        if running:
            self.progress.say("cluster polyglot", self.kind_cluster.describe())

    def _source(self) -> Source:
        engine.ensure(self.places, self.progress)
        source = choose(self._environment)
        self.progress.say("images from", source.value)
        return source

    def _project_images(self, source: Source) -> ProjectImages:
        return ProjectImages(self.places, self.progress, self.images_of_ours, source)


COMMANDS: dict[str, Callable[[Platform], None]] = {
    "tools": Platform.tools,
    "cluster": Platform.cluster,
    "cluster-down": Platform.cluster_down,
    "images": Platform.images,
    "engine-stop": Platform.engine_stop,
    "status": Platform.status,
}


def main(arguments: Sequence[str]) -> int:
    """Run one command; problems a person can solve end in one message and status 1."""
    parser = argparse.ArgumentParser(prog="polyglot_platform", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.__doc__)
    command = COMMANDS[parser.parse_args(arguments).command]
    platform = Platform(os.environ)
    try:
        with _alone(platform):
            command(platform)
    except PlatformError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error}\n  → free disk space or correct the permissions named above", file=sys.stderr)
        return 1
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

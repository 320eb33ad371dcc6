"""Images in the Docker engine, named by the hash of what they are made of."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from polyglot_platform.components import Component
from polyglot_platform.digest import digest, digest_tree
from polyglot_platform.places import Places
from polyglot_platform.process import run, succeeds
from polyglot_platform.progress import Progress
from polyglot_platform.recipes import BaseImage, Recipe
from polyglot_platform.store import Entry, beyond_limit, last_use, touch_stamp
from polyglot_platform.workshop import Workshop

LABEL = "dev.polyglot.image"
"""Marks every image of ours, so that eviction never sees another."""

IMAGES_LIMIT = 24 * 2**30
"""Bytes of images to keep; a layer counts in every image that has it."""

CERTIFICATES = "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt"
"""Makes Python and pip trust the host's authorities, which the root file system carries."""


class Images:
    """Builds images that the engine lacks."""

    def __init__(self, places: Places, progress: Progress, workshop: Workshop) -> None:
        self._places = places
        self._progress = progress
        self._workshop = workshop
        self._used: set[str] = set()

    def reference(self, image: BaseImage | Recipe) -> str:
        """`polyglot/NAME:HASH`, whether the image exists yet or not."""
        return f"polyglot/{image.name}:{self._key(image)}"

    def ensure(self, images: Sequence[BaseImage | Recipe]) -> list[str]:
        """References of images that are in the engine afterwards."""
        missing = self._missing(images)
        parts: dict[str, Component] = {}
        for image in missing:
            for component in _components(image):
                parts[component.name] = component
        self._workshop.ensure(list(parts.values()))
        for image in missing:
            self._build(image)
        for image in images:
            for reference in self._names(image):
                self.use(reference)
        return [self.reference(image) for image in images]

    def use(self, reference: str) -> None:
        """Mark an image as used now, and keep it in this run's eviction."""
        self._used.add(reference)
        touch_stamp(self._places.stamps, _stamp(reference))

    def evict(self, max_bytes: int = IMAGES_LIMIT) -> list[str]:
        """Remove our least recently used images until the rest fits; return their references.

        An image that a container runs on stays: the engine refuses to remove it.
        """
        listing = run(["docker", "image", "ls", "--filter", f"label={LABEL}", "--format", "{{.Repository}}:{{.Tag}}"])
        ours = [line for line in listing.split() if not line.endswith(":<none>")]
        sizes = run(["docker", "image", "inspect", "--format", "{{.Size}}", *ours]).split() if ours else []
        entries = [
            Entry(reference, int(size), last_use(self._places.stamps, _stamp(reference)), reference in self._used)
            for reference, size in zip(ours, sizes, strict=True)
        ]
        return [
            reference
            for reference in beyond_limit(entries, max_bytes)
            if succeeds(["docker", "image", "rm", reference])
        ]

    def _missing(self, images: Sequence[BaseImage | Recipe]) -> list[BaseImage | Recipe]:
        """Images to build, bases first, each once."""
        ordered: dict[str, BaseImage | Recipe] = {}
        for image in images:
            if exists(self.reference(image)):
                continue
            bases = list(image.bases.values()) if isinstance(image, Recipe) else []
            for each in (*self._missing(bases), image):
                ordered[each.name] = each
        return list(ordered.values())

    def _names(self, image: BaseImage | Recipe) -> list[str]:
        """The hashed reference, and the fixed one where the recipe has it."""
        fixed = [f"polyglot/{image.name}:{image.tag}"] if image.tag else []
        return [self.reference(image), *fixed]

    def _key(self, image: BaseImage | Recipe) -> str:
        if isinstance(image, BaseImage):
            return digest(image.name, CERTIFICATES, self._workshop.key(image.rootfs))
        folder = self._places.platform / image.folder
        files = [f"{name} {self._workshop.key(component)}" for component, name in image.files]
        bases = [f"{argument} {self._key(base)}" for argument, base in image.bases.items()]
        return digest(
            image.name, digest_tree(folder, _own_files(folder, image.own_files)), *files, *bases, repr(image.arguments)
        )

    def _build(self, image: BaseImage | Recipe) -> None:
        reference = self.reference(image)
        log = self._places.log(_stamp(reference))
        with self._progress.step(f"image {image.name}", "built"):
            if isinstance(image, BaseImage):
                self._import_rootfs(image, reference, log)
            else:
                self._build_recipe(image, reference, log)
        for name in self._names(image)[1:]:
            run(["docker", "tag", reference, name])

    def _import_rootfs(self, image: BaseImage, reference: str, log: Path) -> None:
        (folder,) = self._workshop.ensure([image.rootfs])
        changes = [f"--change=ENV {CERTIFICATES}", f"--change=LABEL {LABEL}={image.name}"]
        run(["docker", "import", *changes, str(folder / "rootfs.tar"), reference], log=log)

    def _build_recipe(self, recipe: Recipe, reference: str, log: Path) -> None:
        arguments = {**recipe.arguments, **{name: self.reference(base) for name, base in recipe.bases.items()}}
        with tempfile.TemporaryDirectory(dir=self._places.cache) as scratch:
            context = Path(scratch)
            for file in _own_files(self._places.platform / recipe.folder, recipe.own_files):
                shutil.copy(file, context / file.name)
            for component, name in recipe.files:
                (folder,) = self._workshop.ensure([component])
                (context / Path(name).name).hardlink_to(folder / name)
            docker_build(context, reference, recipe.name, arguments, log)


def docker_build(context: Path, reference: str, name: str, arguments: dict[str, str], log: Path) -> None:
    """Build a folder's Dockerfile with the classic builder, which needs no plug-in and no network of its own."""
    options = [f"--build-arg={argument}={value}" for argument, value in arguments.items()]
    command = ["docker", "build", "--label", f"{LABEL}={name}", "--tag", reference, *options, str(context)]
    run(command, env={"DOCKER_BUILDKIT": "0"}, log=log)


def exists(reference: str) -> bool:
    """Whether the engine holds the image."""
    return succeeds(["docker", "image", "inspect", reference])


def _components(image: BaseImage | Recipe) -> list[Component]:
    return [image.rootfs] if isinstance(image, BaseImage) else [component for component, _ in image.files]


def _own_files(folder: Path, pattern: str) -> list[Path]:
    return [file for file in sorted(folder.glob(pattern)) if file.is_file()]


def _stamp(reference: str) -> str:
    return reference.replace("/", "_").replace(":", "-")

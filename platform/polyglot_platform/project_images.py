"""The images of this project: built from the working tree, tagged by its content, loaded into the node."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from polyglot_platform import golang, recipes
from polyglot_platform.cluster import Cluster
from polyglot_platform.digest import digest, digest_tree
from polyglot_platform.errors import PlatformError
from polyglot_platform.images import Images, docker_build, exists
from polyglot_platform.places import Places
from polyglot_platform.process import run
from polyglot_platform.progress import Progress
from polyglot_platform.recipes import BaseImage, Recipe
from polyglot_platform.source import Source


@dataclass(frozen=True)
class ProjectImage:
    """An image whose Dockerfile takes its base as the build argument BASE.

    Python: the build context is the repository's root, reduced to `folder`. Go (`go_package`): the
    context is the Dockerfile and the static binary NAME, built on the host where Go's cache is.
    """

    name: str
    folder: str
    base: BaseImage | Recipe | None = None
    """Stands in for the upstream base, which is the Dockerfile's default, where images come from source."""
    go_package: str = ""


OPERATOR = ProjectImage("operator", "operator", recipes.PYTHON)
INFERENCE = ProjectImage("inference", "services/python-inference", recipes.PYTHON)
GATEWAY = ProjectImage("gateway", "services/go-gateway", recipes.STATIC, go_package="./cmd/gateway")
DEVICE_PLUGIN = ProjectImage(
    "device-plugin", "platform/addons/device-plugin", recipes.STATIC, go_package="./cmd/device-plugin"
)

PRODUCT = (OPERATOR, GATEWAY, INFERENCE)
"""What the charts install."""

DIGITS_MODEL = ProjectImage("digits-model", "examples/digits")
"""A model as an OCI image, which a service mounts as a volume: data alone, on no base."""

PUBLISHED = (*PRODUCT, DIGITS_MODEL)
"""What `make images` builds and loads."""


class ProjectImages:
    """Builds the project's images where the engine lacks them."""

    def __init__(self, places: Places, progress: Progress, images: Images, source: Source) -> None:
        self._places = places
        self._progress = progress
        self._images = images
        self._source = source

    def ensure(self, wanted: Sequence[ProjectImage]) -> list[str]:
        """References of images that are in the engine afterwards."""
        references = [self.reference(image) for image in wanted]
        for image, reference in zip(wanted, references, strict=True):
            if not exists(reference):
                local_base = image.base if self._source is Source.SOURCE else None
                base = self._images.ensure([local_base])[0] if local_base else ""
                with self._progress.step(f"image {image.name}", f"built: {reference}"):
                    self._build(image, base, reference)
            self._images.use(reference)
        return references

    def reference(self, image: ProjectImage) -> str:
        """`polyglot/NAME:HASH` of the working tree as it is, built or not."""
        compiler = golang.go_version() if image.go_package else ""
        base = self._images.reference(image.base) if image.base and self._source is Source.SOURCE else ""
        content = digest_tree(self._places.root, self._files(image))
        return f"polyglot/{image.name}:{digest(image.name, base, compiler, content)}"

    def publish(self, cluster: Cluster) -> dict[str, str]:
        """Build what is published, load it into the node, and record the references in .bin/images.env."""
        references = self.ensure(PUBLISHED)
        cluster.load(references)
        variables = {
            f"{image.name.upper().replace('-', '_')}_IMAGE": reference
            for image, reference in zip(PUBLISHED, references, strict=True)
        }
        self._places.bin.mkdir(exist_ok=True)
        lines = "".join(f"{name}={reference}\n" for name, reference in variables.items())
        (self._places.bin / "images.env").write_text(lines)
        return variables

    def _files(self, image: ProjectImage) -> list[Path]:
        """What the image is made of: files that git knows or would add, without tests and prose."""
        folder = self._places.root / image.folder
        if not (folder / "Dockerfile").is_file():
            raise PlatformError(
                f"{image.folder}/Dockerfile does not exist, so image {image.name} cannot be built",
                f"write it, or run this in a complete checkout ({self._places.root})",
            )
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", image.folder]
        listed = [self._places.root / name for name in run(command, cwd=self._places.root).split("\0") if name]
        return [path for path in listed if path.is_file() and _is_input(path.relative_to(folder))]

    def _build(self, image: ProjectImage, base: str, reference: str) -> None:
        log = self._places.log(reference.replace("/", "_").replace(":", "-"))
        folder = self._places.root / image.folder
        with tempfile.TemporaryDirectory(dir=self._places.cache) as scratch:
            context = Path(scratch)
            if image.go_package:
                shutil.copy(folder / "Dockerfile", context / "Dockerfile")
                flags = f"-s -w -X=main.version={reference.rpartition(':')[2]}"
                command = ["go", "build", "-ldflags", flags, "-o", str(context / image.name), image.go_package]
                run(command, cwd=folder, env=golang.ENVIRONMENT, log=log)
            else:
                for file in self._files(image):
                    copy = context / file.relative_to(self._places.root)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(file, copy)
                shutil.copy(folder / "Dockerfile", context / "Dockerfile")
            docker_build(context, reference, image.name, {"BASE": base} if base else {}, log)


def _is_input(path: Path) -> bool:
    """Whether a file below the image's folder can change the image."""
    return path.suffix != ".md" and not path.name.endswith("_test.go") and path.parts[0] not in {"tests", "testdata"}

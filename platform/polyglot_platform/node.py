"""The kind node image: the node's programs, and every image of the cluster already in its containerd."""

import time

from polyglot_platform.digest import digest
from polyglot_platform.errors import PlatformError
from polyglot_platform.images import LABEL, Images, exists
from polyglot_platform.places import Places
from polyglot_platform.process import pipe, run, succeeds
from polyglot_platform.progress import Progress
from polyglot_platform.recipes import ADDONS, CONTROL_PLANE, NODE_BASE, Recipe

CTR = ["ctr", "--namespace", "k8s.io"]
"""containerd's client in the namespace that the kubelet uses."""

ENTRYPOINT = 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]'
CONTAINERD_SECONDS = 30


class NodeImage:
    """Assembles `polyglot/node:HASH`; kind starts a whole cluster from it without a registry."""

    def __init__(self, places: Places, progress: Progress, images: Images) -> None:
        self._places = places
        self._progress = progress
        self._images = images

    @property
    def reference(self) -> str:
        """The image's name, whether it exists yet or not."""
        names = [f"{name} {self._images.reference(image)}" for name, image in CONTROL_PLANE.items()]
        addons = [self._images.reference(image) for image in ADDONS]
        return f"polyglot/node:{digest(self._images.reference(NODE_BASE), *names, *addons)}"

    def ensure(self) -> str:
        """The reference of the node image, built if the engine lacks it."""
        reference = self.reference
        if not exists(reference):
            contents = {image.name: image for image in (*CONTROL_PLANE.values(), *ADDONS)}
            base, *_ = self._images.ensure([NODE_BASE, *contents.values()])
            with self._progress.step("node image", "assembled", announce="assembling"):
                self._assemble(base, list(contents.values()), reference)
            self._images.evict()
        self._images.use(reference)
        return reference

    def _assemble(self, base: str, contents: list[Recipe], reference: str) -> None:
        """Import the images in a container of the base, then commit it."""
        builder = reference.replace("/", "-").replace(":", "-")
        log = self._places.log(builder)
        run(["docker", "rm", "--force", builder], log=log)
        run(
            ["docker", "run", "--detach", "--privileged", "--name", builder, "--entrypoint=sleep", base, "inf"], log=log
        )
        try:
            inside = ["docker", "exec", "--interactive", builder]
            run(["docker", "exec", "--detach", builder, "containerd"], log=log)
            _wait_for_containerd(inside)
            saved = [self._images.reference(image) for image in contents]
            # Unpacking is left to the node: a snapshot would be stored twice, in the image and in its volume.
            pipe(
                ["docker", "save", *saved],
                [*inside, *CTR, "images", "import", "--no-unpack", "--local", "-"],
                log=log,
            )
            for name, image in CONTROL_PLANE.items():
                run([*inside, *CTR, "images", "tag", f"docker.io/{self._images.reference(image)}", name], log=log)
            run([*inside, "pkill", "--exact", "containerd"], log=log)
            run([*inside, "sh", "-c", "while pgrep --exact containerd > /dev/null; do sleep 0.1; done"], log=log)
            changes = [f"--change={ENTRYPOINT}", f"--change=LABEL {LABEL}=node"]
            run(["docker", "commit", *changes, builder, reference], log=log)
        finally:
            run(["docker", "rm", "--force", "--volumes", builder], log=log)


def _wait_for_containerd(inside: list[str]) -> None:
    deadline = time.monotonic() + CONTAINERD_SECONDS
    while not succeeds([*inside, "ctr", "version"]):
        if time.monotonic() > deadline:
            raise PlatformError(
                f"containerd did not start in the node image within {CONTAINERD_SECONDS} s",
                "check that privileged containers work: `docker run --rm --privileged polyglot/python:3.11 true`",
            )
        time.sleep(0.1)

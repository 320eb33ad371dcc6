"""Builds components into the artifact store, two at a time where memory allows."""

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from polyglot_platform import debian, golang, wheel
from polyglot_platform.components import Component, GoProgram, Rootfs
from polyglot_platform.errors import PlatformError
from polyglot_platform.places import Places
from polyglot_platform.progress import Progress
from polyglot_platform.store import ArtifactStore

STORE_LIMIT = 8 * 2**30
"""Bytes of artifacts to keep: about four complete sets."""

DISK_NEEDED = 40 * 2**30
"""Bytes of free disk for a cold build: modules, Go's build cache, artifacts and images."""

MEMORY_FOR_TWO = 10 * 2**30
"""Bytes of available memory for two builds side by side; linking Kubernetes alone takes 4 GB."""


class Workshop:
    """Where components are built, once per content hash."""

    def __init__(self, places: Places, progress: Progress) -> None:
        self._places = places
        self._progress = progress
        self._store = ArtifactStore(places.artifacts)

    def key(self, component: Component) -> str:
        """The content hash of a component's recipe."""
        if isinstance(component, GoProgram):
            return golang.key(component, self._places.platform)
        if isinstance(component, Rootfs):
            return debian.key(component)
        return wheel.key(component, self._places.platform)

    def ensure(self, components: Sequence[Component]) -> list[Path]:
        """The folders of finished components, in the given order; missing ones are built first."""
        keys = [self.key(component) for component in components]
        missing = [(c, k) for c, k in zip(components, keys, strict=True) if not self._store.find(c.name, k)]
        if missing:
            require_disk(self._places.cache)
            with ThreadPoolExecutor(max_workers=2 if available_memory() >= MEMORY_FOR_TWO else 1) as pool:
                for job in [pool.submit(self._build, component, key) for component, key in missing]:
                    job.result()
            self._store.evict(STORE_LIMIT)
        return [self._finished(c, k) for c, k in zip(components, keys, strict=True)]

    def _build(self, component: Component, key: str) -> None:
        log = self._places.log(f"{component.name}-{key}")
        log.parent.mkdir(parents=True, exist_ok=True)
        subject = f"{component.name} {_version(component)}".strip()
        with (
            self._progress.step(subject, "built", announce=f"building, log: {log}"),
            self._store.building(component.name, key) as target,
        ):
            if isinstance(component, GoProgram):
                golang.build(component, self._places.platform, target, log)
            elif isinstance(component, Rootfs):
                debian.build(component, target, log)
            else:
                wheel.build(component, self._places.platform, target, log)

    def _finished(self, component: Component, key: str) -> Path:
        folder = self._store.find(component.name, key)
        if folder is None:
            raise PlatformError(
                f"{component.name} vanished from {self._places.artifacts} while it was needed",
                "let nothing else delete files there, then run this again",
            )
        return folder


def require_disk(folder: Path, needed: int = DISK_NEEDED) -> None:
    """Refuse to start a cold build that would fill the disk half-way."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise PlatformError(
            f"{free / 2**30:.0f} GiB are free at {folder}; a build from source needs {needed / 2**30:.0f}",
            "free disk space (`docker system prune`, `go clean -modcache`), or point XDG_CACHE_HOME at a larger disk",
        )


def available_memory(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Bytes of memory that can be had without swapping."""
    for line in meminfo.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return 0


def _version(component: Component) -> str:
    return "" if isinstance(component, Rootfs) else component.version

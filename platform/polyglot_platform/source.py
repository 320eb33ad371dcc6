"""Where images come from: an upstream registry, or this repository's recipes."""

from collections.abc import Mapping
from enum import StrEnum

from polyglot_platform.errors import PlatformError
from polyglot_platform.process import succeeds

PROBE_IMAGE = "kindest/node:v1.36.1"
"""kind's own node image: a registry that knows it can provide the rest."""

PROBE_SECONDS = 5.0


class Source(StrEnum):
    """The value of IMAGES."""

    REGISTRY = "registry"
    SOURCE = "source"


def choose(environment: Mapping[str, str]) -> Source:
    """What IMAGES says; unset, the registry if it answers in time, otherwise source."""
    wanted = environment.get("IMAGES", "")
    if not wanted:
        return Source.REGISTRY if registry_answers() else Source.SOURCE
    try:
        return Source(wanted)
    except ValueError as unknown:
        raise PlatformError(
            f"IMAGES={wanted} is unknown", "set IMAGES=registry or IMAGES=source, or unset it"
        ) from unknown


def registry_answers() -> bool:
    """Ask the registry for a manifest, which downloads no layer."""
    return succeeds(["docker", "manifest", "inspect", PROBE_IMAGE], timeout=PROBE_SECONDS)

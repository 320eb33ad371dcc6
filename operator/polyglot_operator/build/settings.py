"""Settings files of the two processes: the only text that is rendered, by Jinja2 from templates/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from polyglot_operator.api.model import ServedModel
from polyglot_operator.api.names import Component, Port
from polyglot_operator.build.lifecycle import DRAIN_SECONDS
from polyglot_operator.build.subject import Subject

MODELS_FOLDER: Final = PurePosixPath("/models")
MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024


class UnquotedValueError(TypeError):
    """A template printed a value without `tojson`."""

    def __init__(self, value: object) -> None:
        super().__init__(f"{value!r} would reach the text unquoted; write {{{{ ... | tojson }}}} in the template")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the two processes run and how they find each other: all that differs between a cluster and a laptop.

    Addresses are `host:port`. The inference processes listen at `listen`; the gateway finds them at `host`, one at each
    of `ports`, or without a host at `sockets`.
    """

    rest: str
    grpc: str
    admin: str
    listen: tuple[str, ...]
    metrics_host: str
    metrics_port: int
    folders: Mapping[str, PurePath]
    host: str | None = None
    ports: tuple[int, ...] = ()
    sockets: tuple[str, ...] = ()
    administration: str = "ReadOnly"
    shared_memory: bool = False


def in_cluster(subject: Subject) -> Place:
    """Return the place of a service's pods."""
    ports = tuple(subject.worker_ports.values())
    return Place(
        rest=f"0.0.0.0:{Port.REST}",
        grpc=f"0.0.0.0:{Port.GRPC}",
        admin=f"0.0.0.0:{Port.ADMIN}",
        listen=tuple(f"0.0.0.0:{port}" for port in ports),
        metrics_host="0.0.0.0",
        metrics_port=Port.METRICS,
        folders={model.name: folder(model) for model in subject.service.spec.models},
        host=subject.host(Component.INFERENCE),
        ports=ports,
        administration=subject.service.spec.gateway.administration,
    )


def folder(model: ServedModel) -> PurePosixPath:
    """Return the folder of a model's files inside the container."""
    source = model.source.persistent_volume_claim or model.source.image
    return MODELS_FOLDER / model.name / ((source and source.path) or "")


def render(component: Component, models: Sequence[ServedModel], place: Place) -> str:
    """Return the text of a component's settings file.

    What has its default is left out, so that a service which doesn't use a new field keeps its pods.
    """
    return TEMPLATES.get_template(f"{component}.yaml.j2").render(
        models=models,
        place=place,
        folders={name: str(path) for name, path in place.folders.items()},
        drain_seconds=DRAIN_SECONDS,
        max_message_bytes=MAX_MESSAGE_BYTES,
    )


def _quoted(value: object) -> object:
    if not isinstance(value, Markup):
        raise UnquotedValueError(value)
    return value


TEMPLATES: Final = Environment(
    loader=PackageLoader("polyglot_operator.build"),
    undefined=StrictUndefined,
    finalize=_quoted,
    autoescape=False,  # noqa: S701  # YAML, not HTML; every value goes through tojson
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)

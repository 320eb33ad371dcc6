"""Settings of the two processes: the only text that is rendered, by Jinja2 from templates/."""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from polyglot_operator.api.model import ServedModel
from polyglot_operator.api.names import Component, Port
from polyglot_operator.build.lifecycle import DRAIN_SECONDS
from polyglot_operator.build.subject import Object, Subject

MODELS_FOLDER: Final = PurePosixPath("/models")
MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024


class UnquotedValueError(TypeError):
    """A template printed a value without `tojson`."""

    def __init__(self, value: object) -> None:
        super().__init__(f"{value!r} would reach the text unquoted; write {{{{ ... | tojson }}}} in the template")


def build(subject: Subject, component: Component) -> Object:
    """Return the ConfigMap that holds the component's settings."""
    return subject.child("v1", "ConfigMap", component, data={f"{component}.yaml": settings(subject, component)})


def settings(subject: Subject, component: Component) -> str:
    """Return the text of the component's settings file."""
    template = TEMPLATES.get_template(f"{component}.yaml.j2")
    return template.render(
        backend=subject.host(Component.INFERENCE),
        drain_seconds=DRAIN_SECONDS,
        max_message_bytes=MAX_MESSAGE_BYTES,
        models=[
            {"name": model.name, "format": model.format, "path": str(folder(model))}
            for model in subject.service.spec.models
        ],
        port=Port,
    )


def settings_hash(subject: Subject, component: Component) -> str:
    """Return the fingerprint of the settings; on the pod template it makes new settings roll the pods."""
    return hashlib.sha256(settings(subject, component).encode()).hexdigest()[:16]


def folder(model: ServedModel) -> PurePosixPath:
    """Return the folder of a model's files inside the container."""
    source = model.source.persistent_volume_claim or model.source.image
    return MODELS_FOLDER / model.name / ((source and source.path) or "")


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

"""ConfigMap: the settings file of one component."""

from __future__ import annotations

import hashlib

from polyglot_operator.api.names import Component
from polyglot_operator.build import settings
from polyglot_operator.build.subject import Object, Subject


def build(subject: Subject, component: Component) -> Object:
    """Return the ConfigMap that holds the component's settings."""
    return subject.child("v1", "ConfigMap", component, data={f"{component}.yaml": _text(subject, component)})


def settings_hash(subject: Subject, component: Component) -> str:
    """Return the fingerprint of the settings; on the pod template it makes new settings roll the pods."""
    return hashlib.sha256(_text(subject, component).encode()).hexdigest()[:16]


def _text(subject: Subject, component: Component) -> str:
    return settings.render(component, subject.service.spec.models, settings.in_cluster(subject))

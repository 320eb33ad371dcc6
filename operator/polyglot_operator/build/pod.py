"""The pod template of a component: what its container runs, may do, and where.

It keeps to the restricted Pod Security level, and states each such field, so that foreign edits of them are undone.
https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from polyglot_operator.api import names
from polyglot_operator.api.model import ServedModel
from polyglot_operator.api.names import Component, Port
from polyglot_operator.build import config_map, environment, lifecycle, models, placement
from polyglot_operator.build.facts import Facts
from polyglot_operator.build.subject import Object, Subject, present

_USER: Final = 65532
_IDENTITY: Final[Object] = {
    "runAsNonRoot": True,
    "runAsUser": _USER,
    "runAsGroup": _USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_METRICS_PORT: Final = {Component.INFERENCE: Port.METRICS, Component.GATEWAY: Port.ADMIN}
_TMP_SIZE: Final = {Component.INFERENCE: "1Gi", Component.GATEWAY: "64Mi"}


class UnknownTemplateRevisionError(LookupError):
    """A Deployment was made by a newer operator, whose pod template this one can't repeat."""

    def __init__(self, revision: int) -> None:
        newest = max(TEMPLATES)
        super().__init__(
            f"the pod template has revision {revision}, this operator knows up to {newest}; upgrade the operator"
        )


def template(subject: Subject, component: Component) -> Object:
    """Return the component's pod template in the revision that its Deployment is pinned to.

    Raises `UnknownTemplateRevisionError` for a revision of a newer operator.
    """
    revision = subject.facts.template_revision
    if revision not in TEMPLATES:
        raise UnknownTemplateRevisionError(revision)
    return TEMPLATES[revision](subject, component)


def image(subject: Subject, component: Component) -> str:
    """Return the image that a component runs: the spec's, or the operator's own."""
    return subject.workload(component).image or _default_image(subject.facts, component)


def _default_image(facts: Facts, component: Component) -> str:
    return facts.images.inference if component is Component.INFERENCE else facts.images.gateway


def _first_template(subject: Subject, component: Component) -> Object:
    return {"metadata": _metadata(subject, component), "spec": _spec(subject, component)}


TEMPLATES: Final[Mapping[int, Callable[[Subject, Component], Object]]] = {1: _first_template}


def _metadata(subject: Subject, component: Component) -> Object:
    return {
        "labels": {**names.labels(subject.name, component), **_mesh_labels(subject, component)},
        "annotations": {
            names.CONFIG_HASH_ANNOTATION: config_map.settings_hash(subject, component),
            # In the mesh the sidecar's agent serves these merged with its own at port 15020.
            "prometheus.io/scrape": "true",
            "prometheus.io/port": str(_METRICS_PORT[component]),
            "prometheus.io/path": "/metrics",
        },
    }


def _mesh_labels(subject: Subject, component: Component) -> Object:
    """Ask for a sidecar or none; name it in traces and in metrics, where it would take app.kubernetes.io/name."""
    if not subject.facts.mesh.sidecars:
        return {names.SIDECAR_LABEL: "false"}
    name = names.child(subject.name, component)
    return {names.SIDECAR_LABEL: "true", names.TRACED_NAME_LABEL: name, names.CANONICAL_NAME_LABEL: name}


def _spec(subject: Subject, component: Component) -> Object:
    return {
        "serviceAccountName": names.child(subject.name, component),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "hostNetwork": False,
        "hostPID": False,
        "hostIPC": False,
        "terminationGracePeriodSeconds": lifecycle.TERMINATION_GRACE_SECONDS,
        "securityContext": dict(_IDENTITY),
        **placement.build(subject, component),
        "containers": [_container(subject, component)],
        "volumes": _volumes(subject, component),
    }


def _container(subject: Subject, component: Component) -> Object:
    return {
        "name": component.value,
        "image": image(subject, component),
        "imagePullPolicy": "IfNotPresent",
        "args": ["--config", f"/etc/polyglot/{component}.yaml"],
        "ports": [{"name": n, "containerPort": p, "protocol": "TCP"} for n, p in _ports(subject, component).items()],
        "env": environment.build(subject, component),
        **present(resources=_resources(subject, component)),
        "securityContext": {
            **_IDENTITY,  # again, because a container's own value would win over the pod's
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        **lifecycle.probes(component),
        "lifecycle": lifecycle.pre_stop(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": _mounts(subject, component),
    }


def _ports(subject: Subject, component: Component) -> dict[str, int]:
    if component is Component.INFERENCE:
        return {**subject.worker_ports, "metrics": Port.METRICS}
    return {"rest": Port.REST, "grpc": Port.GRPC, "admin": Port.ADMIN}


def _resources(subject: Subject, component: Component) -> Object:
    """Return the container's resources; of an extended resource only the limit is stated, its request must be equal."""
    wanted = subject.workload(component).resources
    devices = placement.accelerator(subject, component)
    limits = dict((wanted and wanted.limits) or {})
    if devices:
        limits[devices.resource_name] = str(devices.count)
    return present(requests=wanted and wanted.requests, limits=limits)


def _volumes(subject: Subject, component: Component) -> list[Object]:
    settings = {"name": names.child(subject.name, component), "defaultMode": 0o444}
    return [
        {"name": "settings", "configMap": settings},
        {"name": "tmp", "emptyDir": {"sizeLimit": _TMP_SIZE[component]}},
        *(models.volume(model) for model in _served(subject, component)),
    ]


def _mounts(subject: Subject, component: Component) -> list[Object]:
    return [
        {"name": "settings", "mountPath": "/etc/polyglot", "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  # a volume of the pod's own
        *(models.mount(model) for model in _served(subject, component)),
    ]


def _served(subject: Subject, component: Component) -> tuple[ServedModel, ...]:
    return subject.service.spec.models if component is Component.INFERENCE else ()

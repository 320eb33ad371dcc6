"""The variables of a component's container, as far as this machine can give them."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from typing import Final

from polyglot_operator.api.model import PolyglotService
from polyglot_operator.api.names import Component
from polyglot_operator.build import environment
from polyglot_operator.build.facts import Facts, Images
from polyglot_operator.build.subject import Object, Subject
from polyglot_operator.manifests import InputError

# How Kubernetes names an earlier variable inside a value; a doubled dollar stands for itself.
_REFERENCE: Final = re.compile(r"\$\$|\$\(([-A-Za-z0-9_.]+)\)")


def build(service: PolyglotService, component: Component, own: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of a component's process: what its container would get, below that of the caller.

    The collector of `telemetry.tracing` is a cluster's; here the caller's own `OTEL_…` variables decide on traces.
    Raises `InputError` for a key of a Secret or ConfigMap that the caller's environment doesn't hold either.
    """
    without_tracing = service.model_copy(update={"spec": service.spec.model_copy(update={"telemetry": None})})
    subject = Subject(without_tracing, Facts(owner_uid="", images=Images(gateway="", inference="")))
    values: dict[str, str] = {}
    for variable in environment.build(subject, component):
        name = variable["name"]
        values[name] = own[name] if name in own else _value(variable, component, values)
    return {**own, **values}


def _value(variable: Object, component: Component, earlier: Mapping[str, str]) -> str:
    source = variable.get("valueFrom")
    if source is None:
        return _REFERENCE.sub(
            lambda found: "$" if found[1] is None else earlier.get(found[1], found[0]), variable.get("value", "")
        )
    if "fieldRef" in source:
        return socket.gethostname()  # asked for is the pod's name
    reference = source.get("secretKeyRef") or source["configMapKeyRef"]
    kind = "Secret" if "secretKeyRef" in source else "ConfigMap"
    raise InputError(
        f"{component} takes {variable['name']} from key {reference['key']} of {kind} {reference['name']}, "
        f"which only a cluster has; set it in this shell: export {variable['name']}=…"
    )

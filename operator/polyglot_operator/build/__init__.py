"""What a PolyglotService becomes: one file for each kind of child, pure functions from spec and facts to plain objects.

Nothing here reads or writes anything: same input, same bytes. `polyglot render` prints what the operator applies.
"""

from __future__ import annotations

import json

from polyglot_operator.api.model import PolyglotService
from polyglot_operator.api.names import Component
from polyglot_operator.build import (
    autoscaler,
    config_map,
    deployment,
    disruption_budget,
    mesh,
    service,
    service_account,
)
from polyglot_operator.build.facts import Facts
from polyglot_operator.build.subject import Object, Subject

__all__ = ["Facts", "Object", "canonical", "children"]


def children(declared: PolyglotService, facts: Facts) -> list[Object]:
    """Return all children of a service in the order in which a new service needs them.

    The objects hold exactly what is applied: no status, no empty lists or maps, quantities as the API server stores
    them. Fields that the API server stores by leaving them out when they are false (hostNetwork, hostPID, hostIPC,
    publishNotReadyAddresses) are stated, so that a foreign edit of them is undone.
    Raises `pod.UnknownTemplateRevisionError` for a Deployment made by a newer operator.
    """
    subject = Subject(declared, facts)
    return [
        *(service_account.build(subject, component) for component in Component),
        *(config_map.build(subject, component) for component in Component),
        service.inference(subject),
        service.gateway(subject),
        *mesh.build(subject),
        *(deployment.build(subject, component) for component in Component),
        *(disruption_budget.build(subject, component) for component in Component),
        *(scaler for component in Component for scaler in autoscaler.build(subject, component)),
    ]


def canonical(obj: Object) -> str:
    """Return an object as the operator sends it: JSON with sorted keys and no spaces."""
    return json.dumps(obj, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

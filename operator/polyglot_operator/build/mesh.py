"""Which of Istio's objects a service has in each phase of its way into and out of the mesh.

The order was found on a real cluster: behind a mutual-TLS rule a mixed set of pods fails every other call, and a strict
headless Service refuses the gateway's plaintext. So the rule says plaintext until the last sidecar is there, and
strictness, with the policy that asks for the gateway's identity, comes after mutual TLS.
"""

from __future__ import annotations

from polyglot_operator.api.names import Component
from polyglot_operator.build import (
    authorization_policy,
    destination_rule,
    peer_authentication,
    telemetry,
    virtual_service,
)
from polyglot_operator.build.facts import MeshPhase
from polyglot_operator.build.subject import Object, Subject


def build(subject: Subject) -> list[Object]:
    """Return the service's mesh objects in the order in which they are applied; none outside the mesh."""
    phase = subject.facts.mesh
    if phase is MeshPhase.NONE:
        return []
    return [
        *(peer_authentication.build(subject, component) for component in Component),
        destination_rule.build(subject),
        virtual_service.build(subject),
        *([authorization_policy.build(subject)] if phase is MeshPhase.STRICT else []),
        *telemetry.build(subject),
    ]

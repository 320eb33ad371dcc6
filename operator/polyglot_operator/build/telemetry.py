"""Telemetry: which share of traces the sidecars start and report."""

from __future__ import annotations

from polyglot_operator.api import names
from polyglot_operator.build.subject import Object, Subject

PROVIDER = "otel"


def build(subject: Subject) -> list[Object]:
    """Return the service's Telemetry, or nothing without tracing or in a mesh known to lack the provider."""
    wanted = subject.service.spec.telemetry
    if not wanted or not wanted.tracing or subject.facts.capabilities.tracing_provider is False:
        return []
    percent = wanted.tracing.sampling_percent
    return [
        subject.shared_child(
            "telemetry.istio.io/v1",
            "Telemetry",
            names.telemetry(subject.name),
            spec={
                "selector": {"matchLabels": {names.SERVICE_LABEL: subject.name}},
                "tracing": [
                    {
                        "providers": [{"name": PROVIDER}],
                        "randomSamplingPercentage": int(percent) if percent == int(percent) else float(percent),
                    }
                ],
            },
        )
    ]

"""Environment of the containers: OpenTelemetry's standard variables, then the user's own."""

from __future__ import annotations

from polyglot_operator.api import names
from polyglot_operator.api.model import Tracing
from polyglot_operator.api.names import Component
from polyglot_operator.api.workload import EnvVar
from polyglot_operator.build.subject import Object, Subject, present


def build(subject: Subject, component: Component) -> list[Object]:
    """Return the container's variables by unique name; the user's value replaces ours."""
    own = subject.workload(component).env or ()
    overridden = {variable.name for variable in own}
    ours = [variable for variable in _telemetry(subject, component) if variable["name"] not in overridden]
    return ours + [_user_variable(variable) for variable in own]


def _telemetry(subject: Subject, component: Component) -> list[Object]:
    name = names.child(subject.name, component)
    attributes = {
        "k8s.namespace.name": subject.namespace,
        "k8s.deployment.name": name,
        "k8s.pod.name": "$(K8S_POD_NAME)",
        "k8s.container.name": component.value,
    }
    telemetry = subject.service.spec.telemetry
    return [
        {"name": "K8S_POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
        _variable("OTEL_SERVICE_NAME", name),
        _variable("OTEL_RESOURCE_ATTRIBUTES", ",".join(f"{key}={value}" for key, value in attributes.items())),
        _variable("OTEL_METRICS_EXPORTER", "none"),
        _variable("OTEL_LOGS_EXPORTER", "none"),
        *_traces(telemetry.tracing if telemetry else None),
    ]


def _traces(tracing: Tracing | None) -> list[Object]:
    if tracing is None:
        return [_variable("OTEL_TRACES_EXPORTER", "none")]
    share = (tracing.sampling_percent / 100).normalize()
    return [
        _variable("OTEL_TRACES_EXPORTER", "otlp"),
        _variable("OTEL_EXPORTER_OTLP_ENDPOINT", tracing.endpoint),
        _variable("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        _variable("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        _variable("OTEL_TRACES_SAMPLER_ARG", f"{share:f}"),
    ]


def _variable(name: str, value: str) -> Object:
    return {"name": name, "value": value}


def _user_variable(variable: EnvVar) -> Object:
    if variable.value_from is None:
        # The API server stores an empty value by leaving it out.
        return present(name=variable.name, value=variable.value or None)
    reference = variable.value_from.secret_key_ref or variable.value_from.config_map_key_ref
    kind = "secretKeyRef" if variable.value_from.secret_key_ref else "configMapKeyRef"
    key = {"name": reference.name, "key": reference.key} if reference else {}
    return {"name": variable.name, "valueFrom": {kind: key}}

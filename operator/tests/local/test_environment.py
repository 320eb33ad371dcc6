"""What a component's process gets from the spec and from the shell that it is started in."""

from typing import Any

import pytest

from polyglot_operator.api.model import PolyglotService, parse
from polyglot_operator.api.names import Component
from polyglot_operator.local import environment
from polyglot_operator.manifests import InputError


def service(*env: dict[str, Any]) -> PolyglotService:
    """Return a service whose inference container has variables, and which is traced."""
    models = [{"name": "m", "format": "ONNX", "source": {"configMap": {"name": "m"}}}]
    telemetry = {"tracing": {"endpoint": "http://jaeger.observability.svc:4317"}}
    spec = {"models": models, "telemetry": telemetry, **({"inference": {"env": list(env)}} if env else {})}
    return parse({"metadata": {"name": "s"}, "spec": spec})


def test_values_are_expanded_as_kubernetes_does() -> None:
    declared = service(
        {"name": "HOME_OF", "value": "models"},
        {"name": "PLACE", "value": "/srv/$(HOME_OF)/$$(HOME_OF)/$(UNKNOWN)"},
    )
    found = environment.build(declared, Component.INFERENCE, {"PATH": "/bin"})
    assert found["PLACE"] == "/srv/models/$(HOME_OF)/$(UNKNOWN)"
    assert found["PATH"] == "/bin"


def test_the_shell_wins_over_the_spec() -> None:
    found = environment.build(service({"name": "LEVEL", "value": "1"}), Component.INFERENCE, {"LEVEL": "2"})
    assert found["LEVEL"] == "2"


def test_traces_go_where_the_shell_says_and_not_to_the_clusters_collector() -> None:
    alone = environment.build(service(), Component.GATEWAY, {})
    assert alone["OTEL_TRACES_EXPORTER"] == "none"
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in alone
    assert (
        environment.build(service(), Component.GATEWAY, {"OTEL_TRACES_EXPORTER": "otlp"})["OTEL_TRACES_EXPORTER"]
        == "otlp"
    )


@pytest.mark.parametrize(("kind", "field"), [("Secret", "secretKeyRef"), ("ConfigMap", "configMapKeyRef")])
def test_a_key_of_the_cluster_must_be_set_in_the_shell(kind: str, field: str) -> None:
    declared = service({"name": "HUB", "valueFrom": {field: {"name": "hub", "key": "token"}}})
    assert environment.build(declared, Component.INFERENCE, {"HUB": "t"})["HUB"] == "t"
    with pytest.raises(InputError, match=f"HUB from key token of {kind} hub.*export HUB="):
        environment.build(declared, Component.INFERENCE, {})

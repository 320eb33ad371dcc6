"""The two settings files: YAML that says what the spec says, whatever the names look like."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from polyglot_operator.api.model import parse
from polyglot_operator.api.names import Component
from polyglot_operator.build import settings
from polyglot_operator.build.facts import Facts, Images
from polyglot_operator.build.subject import Subject

# Among them what YAML would read as something else: no, null, 012, 1.10, 0x1F, 2024-01-01.
model_names = st.one_of(
    st.sampled_from(["no", "null", "012", "1.10", "0x1F", "2024-01-01", "1e3", "True"]),
    st.from_regex(r"\A[A-Za-z0-9]([-A-Za-z0-9._]{0,20}[A-Za-z0-9])?\Z"),
)


SOURCE = {"configMap": {"name": "m"}}


def written(component: Component, spec: dict[str, Any] | None = None, **model: Any) -> Any:
    """Return a component's settings file of a service with one model, read as YAML."""
    models = [{"name": "m", "format": "Python", "source": SOURCE, **model}]
    service = parse({"metadata": {"name": "s", "namespace": "n"}, "spec": {"models": models, **(spec or {})}})
    facts = Facts(owner_uid="u", images=Images(gateway="g", inference="i"), cluster_domain="cluster.example")
    place = settings.in_cluster(Subject(service, facts))
    return yaml.safe_load(settings.render(component, service.spec.models, place))


@given(model_names)
def test_a_models_name_survives_yaml(name: str) -> None:
    (model,) = written(Component.INFERENCE, name=name)["models"]
    assert model == {"name": name, "format": "Python", "path": f"/models/{name}"}


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ({"configMap": {"name": "c"}}, "/models/m"),
        ({"persistentVolumeClaim": {"claimName": "c"}}, "/models/m"),
        ({"persistentVolumeClaim": {"claimName": "c", "path": "a/b"}}, "/models/m/a/b"),
        ({"persistentVolumeClaim": {"claimName": "c", "path": "./a//b/"}}, "/models/m/a/b"),
        ({"image": {"reference": "r:1", "path": "a: #b"}}, "/models/m/a: #b"),
    ],
)
def test_a_models_folder_lies_below_its_mount(source: dict[str, Any], path: str) -> None:
    (model,) = written(Component.INFERENCE, source=source)["models"]
    assert model["path"] == path


def test_the_gateway_calls_the_headless_service_by_its_full_name() -> None:
    backend = written(Component.GATEWAY)["backend"]
    assert backend == {"host": "s-inference.n.svc.cluster.example", "ports": [9000], "resolveInterval": "1s"}


def test_every_worker_has_a_port_that_it_listens_on_and_the_gateway_calls() -> None:
    spec = {"inference": {"workers": 3}}
    assert written(Component.INFERENCE, spec)["grpc"]["listen"] == ["0.0.0.0:9000", "0.0.0.0:9010", "0.0.0.0:9020"]
    assert written(Component.GATEWAY, spec)["backend"]["ports"] == [9000, 9010, 9020]


def test_batching_reaches_both_and_is_named_for_models_that_want_it_alone() -> None:
    wanted = {"maxSize": 32, "maxDelay": "0ms"}
    assert written(Component.GATEWAY, batching={})["models"] == [{"name": "m", "batching": wanted}]
    assert written(Component.INFERENCE, batching={})["models"][0]["batching"] == wanted
    assert "models" not in written(Component.GATEWAY)
    assert "batching" not in written(Component.INFERENCE)["models"][0]


@pytest.mark.parametrize("component", Component)
def test_administration_reaches_both(component: Component) -> None:
    assert written(component, {"gateway": {"administration": "Full"}})["administration"] == {"mode": "Full"}
    assert "administration" not in written(component)


def test_a_template_that_prints_a_value_unquoted_fails() -> None:
    with pytest.raises(settings.UnquotedValueError, match="tojson"):
        settings.TEMPLATES.from_string("name: {{ name }}").render(name="no")


def test_a_template_that_names_an_unknown_value_fails() -> None:
    with pytest.raises(UndefinedError, match="nmae"):
        settings.TEMPLATES.from_string("{% for name in nmae %}{% endfor %}").render(name="no")
    with pytest.raises(TypeError, match="StrictUndefined"):
        settings.TEMPLATES.from_string("name: {{ nmae | tojson }}").render(name="no")

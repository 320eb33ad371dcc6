"""The two settings files: YAML that says what the spec says, whatever the names look like."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from polyglot_operator.api.model import parse
from polyglot_operator.api.names import Component
from polyglot_operator.build import config_map
from polyglot_operator.build.facts import Facts, Images
from polyglot_operator.build.subject import Subject

# Among them what YAML would read as something else: no, null, 012, 1.10, 0x1F, 2024-01-01.
model_names = st.one_of(
    st.sampled_from(["no", "null", "012", "1.10", "0x1F", "2024-01-01", "1e3", "True"]),
    st.from_regex(r"\A[A-Za-z0-9]([-A-Za-z0-9._]{0,20}[A-Za-z0-9])?\Z"),
)


def settings(source: dict[str, Any], name: str, component: Component) -> Any:
    """Return a component's settings file, read as YAML."""
    spec = {"models": [{"name": name, "format": "Python", "source": source}]}
    service = parse({"metadata": {"name": "s", "namespace": "n"}, "spec": spec})
    facts = Facts(owner_uid="u", images=Images(gateway="g", inference="i"), cluster_domain="cluster.example")
    return yaml.safe_load(config_map.settings(Subject(service, facts), component))


@given(model_names)
def test_a_models_name_survives_yaml(name: str) -> None:
    (model,) = settings({"configMap": {"name": "m"}}, name, Component.INFERENCE)["models"]
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
    (model,) = settings(source, "m", Component.INFERENCE)["models"]
    assert model["path"] == path


def test_the_gateway_calls_the_headless_service_by_its_full_name() -> None:
    backend = settings({"configMap": {"name": "m"}}, "m", Component.GATEWAY)["backend"]
    assert backend == {"host": "s-inference.n.svc.cluster.example", "ports": [9000], "resolveInterval": "1s"}


def test_a_template_that_prints_a_value_unquoted_fails() -> None:
    with pytest.raises(config_map.UnquotedValueError, match="tojson"):
        config_map.TEMPLATES.from_string("name: {{ name }}").render(name="no")


def test_a_template_that_names_an_unknown_value_fails() -> None:
    with pytest.raises(UndefinedError, match="nmae"):
        config_map.TEMPLATES.from_string("{% for name in nmae %}{% endfor %}").render(name="no")
    with pytest.raises(TypeError, match="StrictUndefined"):
        config_map.TEMPLATES.from_string("name: {{ nmae | tojson }}").render(name="no")

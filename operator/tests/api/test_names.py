"""Names that are derived, and the way back."""

import re

from hypothesis import given
from hypothesis import strategies as st

from polyglot_operator.api import names
from polyglot_operator.api.names import Component

model_names = st.from_regex(r"\A[A-Za-z0-9]([-A-Za-z0-9._]{0,61}[A-Za-z0-9])?\Z")


@given(model_names)
def test_a_models_volume_is_a_dns_label(model: str) -> None:
    volume = names.model_volume(model)
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", volume)
    assert len(volume) <= 63


@given(model_names, model_names)
def test_two_models_have_two_volumes(one: str, other: str) -> None:
    assert (names.model_volume(one) == names.model_volume(other)) == (one == other)


def test_a_plain_model_name_stays_readable() -> None:
    assert names.model_volume("digits") == "model-digits"


def test_a_child_leads_back_to_its_service_and_component() -> None:
    labels = names.labels("digits", Component.GATEWAY)
    assert names.service_of_pod(labels) == "digits"
    assert names.service_of_child(names.child("digits", Component.GATEWAY), labels) == "digits"
    assert names.service_of_child(names.telemetry("a-gateway"), names.service_labels("a-gateway")) == "a-gateway"
    assert names.component_of(labels) is Component.GATEWAY


def test_objects_that_are_not_ours_lead_nowhere() -> None:
    foreign = {names.SERVICE_LABEL: "digits", names.COMPONENT_LABEL: "cache"}
    assert names.service_of_pod(foreign) is None
    assert names.service_of_child("digits-gateway", foreign) is None
    assert names.service_of_child("digits-cache", names.service_labels("digits")) is None
    assert names.component_of(foreign) is None
    assert names.component_of(names.service_labels("digits")) is None


def test_addresses_use_the_clusters_domain() -> None:
    assert names.url("a", "n", "cluster.example") == "http://a-gateway.n.svc.cluster.example:8000"
    assert names.principal("a", Component.GATEWAY, "n") == "cluster.local/ns/n/sa/a-gateway"

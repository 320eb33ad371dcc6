"""What the cluster can do, read from what it says."""

from __future__ import annotations

import pytest

from polyglot_operator.build.facts import Capabilities
from polyglot_operator.cluster.capabilities import ISTIO_APIS, lists_tracing_provider, serves_istio


@pytest.mark.parametrize(
    ("mesh", "expected"),
    [
        ("extensionProviders:\n- name: otel\n  opentelemetry: {port: 4317}", True),
        ("extensionProviders:\n- name: zipkin", False),
        ("extensionProviders:", False),
        ("enableTracing: true", False),
        ("", False),
        ("a: [", None),
    ],
)
def test_the_tracing_provider_is_found_in_the_mesh_configuration(mesh: str, expected: bool | None) -> None:
    assert lists_tracing_provider(mesh) is expected


@pytest.mark.parametrize(
    ("served", "expected"),
    [
        (None, False),
        (tuple(ISTIO_APIS), True),
        ((*ISTIO_APIS, "security.istio.io/v1beta1"), True),
        (("security.istio.io/v1beta1", "networking.istio.io/v1beta1", "telemetry.istio.io/v1alpha1"), False),
    ],
)
def test_istio_is_served_when_every_api_that_we_write_is(served: tuple[str, ...] | None, expected: bool) -> None:
    assert serves_istio(Capabilities(istio=served)) is expected

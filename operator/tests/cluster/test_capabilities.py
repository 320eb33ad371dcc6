"""What the cluster can do, read from what it says."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest

from polyglot_operator.build.facts import Capabilities
from polyglot_operator.cluster.capabilities import (
    ISTIO_APIS,
    MESH_CONFIG,
    believed,
    discover,
    lists_tracing_provider,
    serves_istio,
)
from polyglot_operator.cluster.client import Client


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


ISTIO = Capabilities(istio=tuple(ISTIO_APIS), tracing_provider=True, metrics_api=True)
HALF = Capabilities(istio=("security.istio.io/v1",), metrics_api=True)
NONE = Capabilities()


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (NONE, ISTIO, Capabilities(metrics_api=True)),
        (HALF, ISTIO, HALF),
        (ISTIO, ISTIO, ISTIO),
        (ISTIO, HALF, HALF),
        (ISTIO, NONE, NONE),
    ],
)
def test_istio_is_believed_at_second_sight_and_its_absence_at_once(
    before: Capabilities, now: Capabilities, expected: Capabilities
) -> None:
    assert believed(before, now) == expected


@pytest.mark.parametrize(
    ("namespaces", "asked"), [((), True), (("team-a",), False), (("team-a", "istio-system"), True)]
)
async def test_the_meshs_configuration_is_asked_for_only_where_it_may_be_read(
    namespaces: tuple[str, ...], asked: bool
) -> None:
    answers: dict[str, Any] = {
        "/apis": {"groups": [{"versions": [{"groupVersion": "security.istio.io/v1"}]}]},
        "/version": {"major": "1", "minor": "36+"},
        MESH_CONFIG.path: {"data": {"mesh": "extensionProviders: [{name: otel}]"}},
    }
    client = mock.create_autospec(Client, instance=True)
    client.raw.side_effect = lambda path: answers[path]
    client.get.side_effect = lambda ref: answers[ref.path]
    found = await discover(client, namespaces)
    assert client.get.called is asked
    assert found.tracing_provider is (True if asked else None)
    assert found.image_volumes

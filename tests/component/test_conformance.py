"""What unmodified Triton clients find at this project's two servers; `make conformance` asks other servers, too."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance import checks
from tests.conformance.expectations import NOT_YET, Expected, expected_of, read, surprise, unused
from tests.conformance.suite import CHECKS, GRPC, KSERVE, REST, Check, failure_of
from tests.conformance.targets import Instance, Polyglot, startup_models

EXPECTED = read()
STARTS_SERVERS = ("loading", "draining")


@pytest.fixture(scope="module")
def gateway(gateway_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """The gateway in front of an inference server."""
    folder = tmp_path_factory.mktemp("gateway-models")
    with Polyglot("gateway", gateway_binary).launch(folder, startup_models()) as instance:
        yield instance


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """An inference server alone."""
    with Polyglot("server", None).launch(tmp_path_factory.mktemp("server-models"), startup_models()) as instance:
        yield instance


def asked(*, http: bool) -> list[object]:
    """Return the checks that need neither another environment nor servers of their own."""
    found = (
        checked
        for checked in checks.in_order()
        if checked.client not in KSERVE and checked.name not in STARTS_SERVERS and (http or not checked.over_http)
    )
    return [pytest.param(checked, id=f"{checked.item}-{checked.name}-{checked.client}") for checked in found]


@pytest.mark.parametrize("checked", asked(http=True))
def test_the_gateway_conforms_as_far_as_it_says(gateway: Instance, checked: Check) -> None:
    expected = expected_of("gateway", checked, EXPECTED)
    assert surprise(failure_of(checked, gateway), expected) is None


@pytest.mark.parametrize("checked", asked(http=False))
def test_the_server_conforms_as_far_as_it_says(server: Instance, checked: Check) -> None:
    expected = expected_of("server", checked, EXPECTED)
    assert surprise(failure_of(checked, server), expected) is None


def test_every_allowed_failure_is_of_a_check_that_exists() -> None:
    assert unused(EXPECTED, CHECKS) == []


def test_a_listed_check_that_passes_and_an_unlisted_one_that_fails_are_surprises() -> None:
    checked = next(checked for checked in CHECKS if checked.name == "bf16" and checked.client == "grpc")
    listed = Expected(NOT_YET, ("server",), ("bf16",), shows="identity-bf16", reason="No model can declare it.")
    expected = expected_of("server", checked, [listed])
    assert expected is not None
    assert "it passes" in str(surprise(None, expected))
    assert "it fails" in str(surprise("anything", None))
    assert "otherwise" in str(surprise("something else", expected))
    assert surprise("NOT_FOUND model 'identity-bf16' is not served here", expected) is None
    assert surprise(None, None) is None


def endless(_: object) -> None:
    """A check that waits for what never comes, and waits again where it would tidy up."""
    try:
        threading.Event().wait()
    finally:
        threading.Event().wait()


def test_a_check_that_never_ends_is_a_failure_and_the_next_one_is_run(server: Instance) -> None:
    hanging = Check(15, "endless", "", REST, endless, seconds=0.2)
    assert failure_of(hanging, server) == "TimeoutError: not ended within 0.2 s"
    assert failure_of(next(each for each in CHECKS if (each.name, each.client) == ("live", GRPC)), server) is None

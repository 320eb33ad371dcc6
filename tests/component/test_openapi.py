"""The gateway in front of the inference server answers as its OpenAPI document says, whatever it is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi import checks

from tests.component.conftest import MODELS
from tests.component.processes import ROOT, Chain, chain
from tests.http import call

DOCUMENT = ROOT / "services/go-gateway/internal/rest/openapi.json"
EXPECTED = {501, 503, 504}
"""Server errors that are no fault: what is not offered, who is not ready, and a deadline that the caller set."""
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
KNOWN = "digits"

SCHEMA = schemathesis.openapi.from_path(DOCUMENT)


@pytest.fixture(scope="module")
def open_service(gateway_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """Gateway and inference server of this module alone, which may be changed."""
    models = [model for model in MODELS if model["name"] == KNOWN]
    with chain(tmp_path_factory.mktemp("openapi"), gateway_binary, models, {"mode": "Full"}) as running:
        yield running


def test_the_gateway_serves_the_document(service: Chain) -> None:
    assert json.loads(call(f"{service.rest}/openapi.json").body) == json.loads(DOCUMENT.read_text())


@SCHEMA.parametrize()
@settings(max_examples=10, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_described(case: schemathesis.Case[Any], open_service: Chain) -> None:
    answered(case, open_service)
    if "model" in (case.path_parameters or {}):  # made names are rarely those of models
        case.path_parameters |= {"model": KNOWN} | ({"version": "1"} if "version" in case.path_parameters else {})
        answered(case, open_service)


def answered(case: schemathesis.Case[Any], service: Chain) -> None:
    """Send what was made up, and judge the answer."""
    response = case.call(base_url=service.rest, timeout=10)
    case.validate_response(response, checks=CHECKS)
    assert response.status_code < 500 or response.status_code in EXPECTED, response.text

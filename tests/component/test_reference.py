"""The reference pages that need more than one program are those that the programs give now."""

import re
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Gauge

from docs.reference import generate
from polyglot_operator.api.conditions import REASONS, Reason

OPERATIONS = (generate.FOLDER.parent / "operations.md").read_text()


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return generate.files()


@pytest.mark.parametrize("name", ["metrics.md", "events.md", "errors.md"])
def test_the_generated_page_is_up_to_date(pages: dict[str, str], name: str) -> None:
    assert (generate.FOLDER / name).read_text() == pages[name], "run `make generate`"


def test_generating_twice_gives_the_same_bytes(pages: dict[str, str]) -> None:
    assert generate.files() == pages


def test_every_reason_has_its_event(pages: dict[str, str]) -> None:
    assert [reason for reason in Reason if f"| `{reason}` |" not in pages["events.md"]] == []


def test_operations_tells_what_to_do_about_every_reason_that_is_not_good() -> None:
    assert [row.reason for row in REASONS if row.status != "True" and f"`{row.reason}`" not in OPERATIONS] == []


def test_operations_names_only_metrics_that_exist(pages: dict[str, str]) -> None:
    named = set(re.findall(r"\b(?:polyglot|controller_runtime|workqueue|rest_client)_\w+[a-z]", OPERATIONS))
    assert named
    assert sorted(name for name in named if f"| `{name}` |" not in pages["metrics.md"]) == []


def test_operations_names_only_error_codes_that_exist(pages: dict[str, str]) -> None:
    named = set(re.findall(r"\b\d{3} `([A-Z_]+)`", OPERATIONS))
    assert named
    assert sorted(code for code in named if f"| `{code}` |" not in pages["errors.md"]) == []


def test_a_metric_whose_labels_cannot_be_seen_is_refused() -> None:
    registry = CollectorRegistry()
    Gauge("new_metric", "Never set.", ["label"], registry=registry)
    with pytest.raises(ValueError, match="new_metric has no value"):
        list(generate.described(registry))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"grpc": 13}, "SERVER_DRAINING is UNAVAILABLE .* gateway says .*INTERNAL"),
        ({"code": "OTHER"}, "SERVER_DRAINING .* None"),
    ],
)
def test_a_code_on_which_gateway_and_server_disagree_is_refused(change: dict[str, Any], complaint: str) -> None:
    table = generate.ask_gateway()["errors"]
    next(row for row in table if row["code"] == "SERVER_DRAINING").update(change)
    with pytest.raises(ValueError, match=complaint):
        generate.errors_reference(table)

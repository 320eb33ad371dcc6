"""The reference pages that need more than one program are those that the programs give now."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Gauge

from docs.reference import generate
from polyglot_operator.api.conditions import Reason


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

"""Quantities become what the API server would store."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyglot_operator.api import quantity

UNITS = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "e3", "E-3", "e1"]
texts = st.builds(
    lambda whole, part, unit: f"{whole}{part}{unit}",
    st.integers(0, 10**6),
    st.one_of(st.just(""), st.integers(0, 999).map(lambda digits: f".{digits}")),
    st.sampled_from(UNITS),
)


@pytest.mark.parametrize(
    ("given_text", "stored"),
    [
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("0.5", "500m"),
        (".5", "500m"),
        ("1.", "1"),
        (2, "2"),
        (1000, "1k"),
        (1024, "1024"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Gi", "512Mi"),
        ("1023Ki", "1023Ki"),
        ("0.5Ki", "512"),
        ("2048", "2048"),
        ("1e3", "1e3"),
        ("1e4", "10e3"),
        ("12E6", "12e6"),
        ("0.1n", "1n"),
        ("0", "0"),
        ("0Gi", "0"),
        ("-0", "0"),
        ("-1000m", "-1"),
        ("+1", "1"),
        ("100M", "100M"),
        ("125000.0009765625Ki", "128000001"),
        ("1.953125Ki", "2k"),
        ("1000000", "1M"),
        ("9Ei", "9223372036854775807"),
    ],
)
def test_a_quantity_is_stored_in_its_shortest_exact_form(given_text: object, stored: str) -> None:
    assert quantity.canonical(given_text) == stored


@pytest.mark.parametrize(
    "text", ["", " 1", "1 Gi", "1GB", "lots", "1.2.3", "0x10", "1e", "1e99", "--1", None, 1.5, True]
)
def test_what_is_no_quantity_is_refused_with_an_example(text: object) -> None:
    with pytest.raises(quantity.QuantityError, match="such as 500m"):
        quantity.canonical(text)


@given(texts)
def test_the_stored_form_is_stable(text: str) -> None:
    stored = quantity.canonical(text)
    assert quantity.canonical(stored) == stored


@given(texts)
def test_the_stored_form_has_the_same_value_but_for_rounding(text: str) -> None:
    given_value, stored = quantity.value(text), quantity.value(quantity.canonical(text))
    assert given_value <= stored < given_value + Decimal(1)

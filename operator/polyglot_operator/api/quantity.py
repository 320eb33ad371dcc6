"""Kubernetes quantities in the form in which the API server stores them.

A body that holds `1000m` where the server stores `1` reads as changed forever; so everything we apply is canonical.
Source: k8s.io/apimachinery/pkg/api/resource, Quantity.CanonicalizeBytes.
"""

from __future__ import annotations

import re
from decimal import ROUND_UP, Decimal, localcontext
from typing import Final

_BINARY: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL: Final = {-9: "n", -6: "u", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P", 18: "E"}
_EXPONENTS: Final = {suffix: exponent for exponent, suffix in _DECIMAL.items()}
_SYNTAX: Final = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:([KMGTPE]i)|([numkMGTPE])|[eE]([+-]?[0-9]+))?")
_LARGEST: Final = Decimal(2**63 - 1)
_FINEST: Final = Decimal("1e-9")


class QuantityError(ValueError):
    """The text is no Kubernetes quantity."""

    def __init__(self, text: object) -> None:
        super().__init__(f"{text!r} is no quantity; write a number with an optional unit, such as 500m, 2 or 1Gi")


def value(text: object) -> Decimal:
    """Return the exact value of a quantity; raise `QuantityError`."""
    amount, _ = _parse(text)
    return amount


def canonical(text: object) -> str:
    """Return a quantity as the API server stores it: `1000m` → `1`, `1024Mi` → `1Gi`, `0.5` → `500m`, `1000` → `1k`.

    Raises `QuantityError`.
    """
    amount, form = _parse(text)
    if amount == 0:
        return "0"
    if form == "binary" and abs(amount) >= 1024:
        return _in_binary(amount)
    return _in_decimal(amount, scientific=form == "scientific")


def _parse(text: object) -> tuple[Decimal, str]:
    if isinstance(text, bool) or not isinstance(text, str | int):
        raise QuantityError(text)
    matched = _SYNTAX.fullmatch(str(text))
    if not matched:
        raise QuantityError(text)
    digits, binary, decimal, exponent = matched.groups()
    with localcontext(prec=100):
        if binary:
            amount, form = Decimal(digits) * 1024 ** _BINARY.index(binary), "binary"
        elif exponent:
            if abs(int(exponent)) > 30:
                raise QuantityError(text)
            amount, form = Decimal(digits).scaleb(int(exponent)), "scientific"
        else:
            amount, form = Decimal(digits).scaleb(_EXPONENTS[decimal or ""]), "decimal"
        capped = max(-_LARGEST, min(_LARGEST, amount))
        return capped.quantize(_FINEST, rounding=ROUND_UP), form


def _in_binary(amount: Decimal) -> str:
    whole, power = int(amount.to_integral_value(rounding=ROUND_UP)), 0
    while whole % 1024 == 0 and power < len(_BINARY) - 1:
        whole, power = whole // 1024, power + 1
    if power == 0:  # stored without a unit, which the API server reads back as decimal
        return _in_decimal(Decimal(whole), scientific=False)
    return f"{whole}{_BINARY[power]}"


def _in_decimal(amount: Decimal, *, scientific: bool) -> str:
    with localcontext(prec=100):
        nanos, exponent = int(amount.scaleb(9)), -9
    while nanos % 1000 == 0 and exponent < 18:
        nanos, exponent = nanos // 1000, exponent + 3
    if scientific:
        return f"{nanos}e{exponent}" if exponent else str(nanos)
    return f"{nanos}{_DECIMAL[exponent]}"

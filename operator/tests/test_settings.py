"""Settings from the environment."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from polyglot_operator.build.facts import Images
from polyglot_operator.settings import Settings

NEEDED = {"POLYGLOT_GATEWAY_IMAGE": "g:1", "POLYGLOT_INFERENCE_IMAGE": "i:1"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in NEEDED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("POLYGLOT_CONTEXT", raising=False)
    return monkeypatch


def read() -> Settings:
    return Settings()  # type: ignore[call-arg]  # read from the environment


def test_two_images_are_enough(environment: pytest.MonkeyPatch) -> None:
    settings = read()
    assert settings.images == Images("g:1", "i:1")
    assert settings.namespaces == ()
    assert settings.cluster_domain == "cluster.local"


@pytest.mark.parametrize(("text", "expected"), [("", ()), ("a", ("a",)), ("a,b", ("a", "b")), (" a , b ,", ("a", "b"))])
def test_namespaces_are_separated_by_commas(
    environment: pytest.MonkeyPatch, text: str, expected: tuple[str, ...]
) -> None:
    environment.setenv("POLYGLOT_NAMESPACES", text)
    assert read().namespaces == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [("POLYGLOT_LOG_LEVEL", "CHATTY"), ("POLYGLOT_WORKERS", "0"), ("POLYGLOT_GATEWAY_IMAGE", "")],
)
def test_a_setting_that_cannot_work_is_refused(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    environment.setenv(name, value)
    with pytest.raises(ValidationError):
        read()

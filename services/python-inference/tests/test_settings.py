"""Settings from file and environment, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyglot_inference.settings import Settings, SettingsError

COMPLETE = """
models:
- {name: digits, format: ONNX, path: /models/digits}
- {name: text-statistics, format: Python, path: /models/text-statistics}
grpc: {host: "127.0.0.1", port: 9100, maxMessageBytes: 1048576}
metrics: {host: "127.0.0.1", port: 9101}
drain: {timeoutSeconds: 12.5}
log: {level: DEBUG}
runtime: {cpus: 3}
"""
MINIMAL = "models: [{name: digits, format: ONNX, path: /models/digits}]"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "inference.yaml"


def test_every_field_is_read_from_the_file(file: Path) -> None:
    file.write_text(COMPLETE)
    settings = Settings.load(file)
    assert [(model.name, model.format, model.path) for model in settings.models] == [
        ("digits", "ONNX", Path("/models/digits")),
        ("text-statistics", "Python", Path("/models/text-statistics")),
    ]
    assert (settings.grpc.host, settings.grpc.port, settings.grpc.max_message_bytes) == ("127.0.0.1", 9100, 2**20)
    assert (settings.metrics.host, settings.metrics.port) == ("127.0.0.1", 9101)
    assert (settings.drain.timeout_seconds, settings.log.level, settings.runtime.cpus) == (12.5, "DEBUG", 3)


def test_only_models_are_required(file: Path) -> None:
    file.write_text(MINIMAL)
    settings = Settings.load(file)
    assert (settings.grpc.port, settings.grpc.max_message_bytes, settings.metrics.port) == (9000, 67108864, 9001)
    assert (settings.drain.timeout_seconds, settings.log.level, settings.runtime.cpus) == (25, "INFO", None)


def test_the_environment_overrides_single_fields_of_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(COMPLETE)
    monkeypatch.setenv("POLYGLOT_INFERENCE__GRPC__PORT", "9200")
    monkeypatch.setenv("POLYGLOT_INFERENCE__GRPC__MAXMESSAGEBYTES", "2048")
    monkeypatch.setenv("POLYGLOT_INFERENCE__DRAIN__TIMEOUTSECONDS", "3")
    settings = Settings.load(file)
    assert (settings.grpc.host, settings.grpc.port, settings.grpc.max_message_bytes) == ("127.0.0.1", 9200, 2048)
    assert settings.drain.timeout_seconds == 3


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "must hold a YAML mapping with the key 'models'"),
        ("- models", "must hold a YAML mapping with the key 'models'"),
        ("models: [", "is not YAML"),
        ("grpc: {port: 9000}", "models: Field required"),
        ("models: []", "models: List should have at least 1 item"),
        ("models: [{name: a, format: ONNX}]", "models.0.path: Field required"),
        ("models: [{name: a, format: onnx, path: /a}]", "models.0.format: Input should be 'ONNX' or 'Python'"),
        ("models: [{name: a/b, format: ONNX, path: /a}]", "models.0.name: String should match pattern"),
        ("models: [{name: a, format: ONNX, path: /a, version: 2}]", "models.0.version: Extra inputs"),
        (
            "models: [{name: a, format: ONNX, path: /a}, {name: a, format: ONNX, path: /b}]",
            "models: Value error, model names must be unique; given more than once: a",
        ),
        (f"{MINIMAL}\nmodel: []", "model: Extra inputs are not permitted"),
        (f"{MINIMAL}\ngrpc: {{port: 65536}}", "grpc.port: Input should be less than or equal to 65535"),
        (f"{MINIMAL}\ngrpc: {{max_message_bytes: 2048}}", "grpc.max_message_bytes: Extra inputs"),
        (f"{MINIMAL}\ngrpc: {{maxMessageBytes: 1}}", "grpc.maxMessageBytes: Input should be greater than"),
        (f"{MINIMAL}\nlog: {{level: LOUD}}", "log.level: Input should be 'DEBUG', 'INFO'"),
    ],
)
def test_a_wrong_file_is_refused_with_the_field_named(file: Path, text: str, complaint: str) -> None:
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        Settings.load(file)
    assert complaint in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot read .*absent\.yaml: No such file or directory"):
        Settings.load(tmp_path / "absent.yaml")


def test_a_wrong_variable_is_refused_with_the_field_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(MINIMAL)
    monkeypatch.setenv("POLYGLOT_INFERENCE__GRPC__PORT", "nine thousand")
    with pytest.raises(SettingsError, match=r"grpc\.port: Input should be a valid integer"):
        Settings.load(file)

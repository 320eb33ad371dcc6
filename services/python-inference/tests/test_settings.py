"""Settings from file and environment, and what is said of wrong ones."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from polyglot_inference.settings import BatchingSettings, Settings, SettingsError

COMPLETE = """
models:
- {name: digits, format: ONNX, path: /models/digits, batching: {maxSize: 64, maxDelay: 1.5ms}}
- {name: text-statistics, format: Python, path: /models/text-statistics}
grpc: {listen: ["127.0.0.1:9100"], maxMessageBytes: 1048576}
metrics: {host: "127.0.0.1", port: 9101}
drain: {timeoutSeconds: 12.5}
log: {level: DEBUG}
runtime: {cpus: 3}
administration: {mode: Full, restricted: [{apis: [logging, trace], header: x-admin, value: secret}]}
sharedMemory: {enabled: true, keyPrefix: /models-, maxBytes: 1048576}
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
    assert [model.batching for model in settings.models] == [
        BatchingSettings.model_construct(max_size=64, max_delay=timedelta(milliseconds=1.5)),
        None,
    ]
    assert (settings.grpc.listen, settings.grpc.max_message_bytes) == (["127.0.0.1:9100"], 2**20)
    assert (settings.metrics.host, settings.metrics.port) == ("127.0.0.1", 9101)
    assert (settings.drain.timeout_seconds, settings.log.level, settings.runtime.cpus) == (12.5, "DEBUG", 3)
    assert settings.shared_memory.model_dump() == {"enabled": True, "key_prefix": "/models-", "max_bytes": 2**20}
    (restriction,) = settings.administration.restricted
    assert (settings.administration.mode, restriction.apis) == ("Full", ["logging", "trace"])
    assert (restriction.header, restriction.value.get_secret_value()) == ("x-admin", "secret")
    assert "secret" not in repr(settings)


def test_only_models_are_required(file: Path) -> None:
    file.write_text(MINIMAL)
    settings = Settings.load(file)
    assert (settings.grpc.listen, settings.grpc.max_message_bytes) == (["0.0.0.0:9000"], 67108864)
    assert settings.metrics.port == 9001
    assert (settings.drain.timeout_seconds, settings.log.level, settings.runtime.cpus) == (25, "INFO", None)
    assert (settings.administration.mode, settings.administration.restricted) == ("ReadOnly", [])
    assert settings.shared_memory.model_dump() == {"enabled": False, "key_prefix": "/polyglot_", "max_bytes": 2**28}


def test_the_environment_overrides_single_fields_of_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(COMPLETE)
    monkeypatch.setenv("POLYGLOT_INFERENCE__GRPC__LISTEN", '["127.0.0.1:9200"]')
    monkeypatch.setenv("POLYGLOT_INFERENCE__GRPC__MAXMESSAGEBYTES", "2048")
    monkeypatch.setenv("POLYGLOT_INFERENCE__DRAIN__TIMEOUTSECONDS", "3")
    monkeypatch.setenv("POLYGLOT_INFERENCE__SHAREDMEMORY__ENABLED", "false")
    settings = Settings.load(file)
    assert (settings.grpc.listen, settings.grpc.max_message_bytes) == (["127.0.0.1:9200"], 2048)
    assert settings.drain.timeout_seconds == 3
    assert not settings.shared_memory.enabled


def test_a_worker_has_its_own_address_and_its_share_of_the_cpus(file: Path) -> None:
    file.write_text(f"{MINIMAL}\ngrpc: {{listen: ['a:9000', 'a:9010'], maxConnectionAge: 1h}}")
    worker = Settings.load(file).of_worker(1, available_cpus=5)
    assert (worker.grpc.listen, worker.runtime.cpus) == (["a:9010"], 2)
    assert worker.grpc.max_connection_age == timedelta(hours=1)
    assert Settings.load(file).of_worker(0, available_cpus=1).runtime.cpus == 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "must hold a YAML mapping with the key 'models'"),
        ("- models", "must hold a YAML mapping with the key 'models'"),
        ("models: [", "is not YAML"),
        (MINIMAL + "\nlog: 2021-99-99", "is not YAML: ValueError: month must be in 1..12"),
        (MINIMAL + "\n1: 2", "1: the name of a field must be a text"),
        (MINIMAL + "\ngrpc: {maxConnectionAge: 99999999999999h}", "grpc.maxConnectionAge: Value error, is too long"),
        ("grpc: {maxMessageBytes: 2048}", "models: Field required"),
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
        (f"{MINIMAL}\nmetrics: {{port: 65536}}", "metrics.port: Input should be less than or equal to 65535"),
        (f"{MINIMAL}\ngrpc: {{listen: []}}", "grpc.listen: List should have at least 1 item"),
        (
            f"{MINIMAL}\ngrpc: {{listen: ['a:9000', 'b:9000', 'a:9000']}}",
            "grpc.listen: Value error, addresses must differ; given more than once: a:9000",
        ),
        (f"{MINIMAL}\ngrpc: {{listen: [{', '.join(['a:0'] * 9)}]}}", "grpc.listen: List should have at most 8 items"),
        (f"{MINIMAL}\ngrpc: {{maxConnectionAge: 500ms}}", "grpc.maxConnectionAge: Input should be greater than or"),
        (f"{MINIMAL}\ngrpc: {{listen: ['0.0.0.0']}}", "'0.0.0.0' must be host:port or unix:/absolute/path"),
        (f"{MINIMAL}\ngrpc: {{listen: ['0.0.0.0:65536']}}", "'0.0.0.0:65536' must be host:port"),
        (f"{MINIMAL}\ngrpc: {{listen: ['unix:run.sock']}}", "'unix:run.sock' must name an absolute path"),
        (f"{MINIMAL}\ngrpc: {{listen: ['unix:/{'s' * 107}']}}", "a socket's path has at most 107 bytes"),
        (
            "models: [{name: a, format: ONNX, path: /a, batching: {maxSize: 1}}]",
            "models.0.batching.maxSize: Input should be greater than or equal to 2",
        ),
        (
            "models: [{name: a, format: ONNX, path: /a, batching: {maxSize: 2, maxDelay: 5}}]",
            "models.0.batching.maxDelay: Value error, must be a number with a unit, us, ms, s, m or h",
        ),
        (
            "models: [{name: a, format: ONNX, path: /a, batching: {maxSize: 2, maxDelay: 2s}}]",
            "models.0.batching.maxDelay: Input should be less than or equal to 1 second",
        ),
        (f"{MINIMAL}\ngrpc: {{max_message_bytes: 2048}}", "grpc.max_message_bytes: Extra inputs"),
        (f"{MINIMAL}\ngrpc: {{maxMessageBytes: 1}}", "grpc.maxMessageBytes: Input should be greater than"),
        (f"{MINIMAL}\nadministration: {{mode: full}}", "administration.mode: Input should be 'ReadOnly' or 'Full'"),
        (
            f"{MINIMAL}\nadministration: {{restricted: [{{apis: [everything], header: a, value: b}}]}}",
            "administration.restricted.0.apis.0: Input should be 'health', 'metadata'",
        ),
        (
            f"{MINIMAL}\nadministration: {{restricted: [{{apis: [trace, trace], header: a, value: b}}]}}",
            "an API can be restricted once; restricted more than once: trace",
        ),
        (
            f"{MINIMAL}\nadministration: {{restricted: [{{apis: [trace], header: X-Admin, value: b}}]}}",
            "administration.restricted.0.header: String should match pattern",
        ),
        (f"{MINIMAL}\nsharedMemory: {{keyPrefix: a}}", "sharedMemory.keyPrefix: String should match pattern"),
        (
            f"{MINIMAL}\nsharedMemory: {{maxBytes: 0}}",
            "sharedMemory.maxBytes: Input should be greater than or equal to 1",
        ),
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
    monkeypatch.setenv("POLYGLOT_INFERENCE__METRICS__PORT", "nine thousand")
    with pytest.raises(SettingsError, match=r"metrics\.port: Input should be a valid integer"):
        Settings.load(file)

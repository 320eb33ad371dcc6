"""Whatever the settings file holds: settings that keep their bounds, or a SettingsError."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from polyglot_inference.settings import Settings, SettingsError

MODELS = "models: [{name: digits, format: ONNX, path: /models/digits}]\n"

FIELDS = {
    "models": ("name", "format", "path", "batching", "maxSize", "maxDelay"),
    "grpc": ("listen", "maxConnectionAge", "maxMessageBytes"),
    "metrics": ("host", "port"),
    "drain": ("timeoutSeconds",),
    "log": ("level",),
    "runtime": ("cpus",),
    "administration": ("mode", "restricted", "apis", "header", "value"),
    "queue": ("maxSize", "maxBytes"),
    "sharedMemory": ("enabled", "keyPrefix", "maxBytes"),
}
# The scalars of YAML 1.1 are many: dates, sexagesimal, binary and tagged ones.
scalar_texts = st.sampled_from(
    [
        *("2021-99-99", "2021-01-01T00:00:00+99:99", "0b_", "0x_", "1:9", "190:20:30.15", "=", "<<", "~", "yes", "1e3"),
        *(".nan", "-.inf", "!!int x", "!!float x", "!!bool x", "!!timestamp x", "!!binary x", "!!set x", "!!null 1"),
        *('"\\ud800"', '"\\0"', "*a", "&a [*a]", "&a {x: *a}", "9" * 5000, "[" * 5000, "!!python/object:os.system {}"),
        *("9" * 400 + "s", "99999999999999h", "1.5ms", "0.0s", "127.0.0.1:0", "unix:/run/s", '"unix:/\\ud800"', "Full"),
    ]
)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.dates() | st.datetimes() | st.binary() | st.text()
)
values = st.recursive(
    scalars | st.sampled_from(["2ms", "ONNX", "trace", "Full", "DEBUG", "x-admin", "/polyglot_", "unix:/s"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([field for fields in FIELDS.values() for field in fields]), inner, max_size=4)
        | st.dictionaries(scalars, inner, max_size=2)
    ),
    max_leaves=8,
)
sections = st.fixed_dictionaries(
    {"models": st.just([{"name": "digits", "format": "ONNX", "path": "/models/digits"}]) | values},
    optional={
        section: st.fixed_dictionaries({}, optional=dict.fromkeys(fields, values)) | values
        for section, fields in FIELDS.items()
        if section != "models"
    },
)
files = (
    st.text()
    | st.binary()
    | sections.map(yaml.safe_dump)
    | st.builds(
        lambda section, field, value: f"{MODELS}{section}: {{{field}: {value}}}",
        st.sampled_from([section for section in FIELDS if section != "models"]),
        st.sampled_from([field for fields in FIELDS.values() for field in fields]),
        scalar_texts | st.text(max_size=20),
    )
    | st.builds(lambda key, value: f"{MODELS}{key}: {value}", scalar_texts, scalar_texts)
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(content=files)
@example(content=MODELS + "x: 2021-99-99")
@example(content=MODELS + "x: 0b_")
@example(content=MODELS + "x: !!bool maybe")
@example(content=MODELS + "x: !!timestamp soon")
@example(content=MODELS + "x: " + "9" * 5000)
@example(content="[" * 5000)
@example(content=MODELS + "1: x")
@example(content=MODELS + "grpc: {maxConnectionAge: 99999999999999h}")
@example(content=MODELS + f"grpc: {{maxConnectionAge: {'9' * 400}s}}")
def test_any_settings_file_is_read_or_refused_in_words(content: str | bytes, tmp_path: Path) -> None:
    file = tmp_path / "inference.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    try:
        read = Settings.load(file)
    except SettingsError as error:
        complaint = str(error)
    else:
        assert_bounds(read)
        return
    assert complaint.strip()


def assert_bounds(read: Settings) -> None:
    assert read.models
    assert 1 <= len(read.grpc.listen) <= 8
    assert timedelta(seconds=1) <= read.grpc.max_connection_age <= timedelta(days=1)
    assert 1024 <= read.grpc.max_message_bytes <= 2**30
    assert 0 <= read.drain.timeout_seconds <= 3600

"""What the process is told: a YAML file, overridden by variables such as POLYGLOT_INFERENCE__METRICS__PORT=9100."""

import re
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource

UNIX: Final = "unix:"
_HOST_AND_PORT: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+]|[^:/\[\]\s]+):([0-9]{1,5})")
# A socket's path lives in sockaddr_un, whose 108 bytes include the closing NUL.
_LONGEST_SOCKET_PATH: Final = 107
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(us|ms|s|m|h)")
_UNITS: Final = {
    "us": timedelta(microseconds=1),
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
}
# What PyYAML lets through where a scalar is none of its kind, for example the date 2021-99-99 or !!bool maybe.
_FAULTS_OF_SCALARS: Final = (ValueError, KeyError, AttributeError)


class SettingsError(Exception):
    """The configuration cannot be used; the message has one line per wrong field."""


def _address(text: str) -> str:
    if text.startswith(UNIX):
        path = text.removeprefix(UNIX)
        if not path.startswith("/") or "\0" in path:
            raise ValueError(f"{text!r} must name an absolute path, for example unix:/run/polyglot/inference.sock")
        if len(path.encode()) > _LONGEST_SOCKET_PATH:
            raise ValueError(f"{text!r} is too long: a socket's path has at most {_LONGEST_SOCKET_PATH} bytes")
        return text
    match = _HOST_AND_PORT.fullmatch(text)
    if not match or int(match[1]) > 65535:
        raise ValueError(f"{text!r} must be host:port or unix:/absolute/path; port 0 lets the kernel choose")
    return text


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise ValueError("must be a number with a unit, us, ms, s, m or h, for example 2ms")
    try:
        return float(match[1]) * _UNITS[match[2]]
    except OverflowError:
        raise ValueError("is too long") from None


Port = Annotated[int, Field(ge=0, le=65535, description="TCP port; 0 lets the kernel choose")]
Address = Annotated[str, AfterValidator(_address)]
Duration = Annotated[timedelta, BeforeValidator(_duration)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)


class BatchingSettings(_Section):
    """How calls of one model are run together."""

    max_size: int = Field(ge=2, le=1024, description="Most rows that the model gets at once")
    max_delay: Duration = Field(
        default=timedelta(0), ge=timedelta(0), le=timedelta(seconds=1), description="How long a call may wait for more"
    )


class ModelSettings(_Section):
    """One model to serve."""

    name: str = Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$", description="Name that callers use")
    format: Literal["ONNX", "Python"]
    path: Path = Field(description="Folder with model.onnx (ONNX) or model.py (Python)")
    batching: BatchingSettings | None = Field(default=None, description="Absent: every call runs alone")


class GrpcSettings(_Section):
    """The gRPC listeners."""

    listen: list[Address] = Field(default=["0.0.0.0:9000"], min_length=1, max_length=8)
    max_connection_age: Duration = Field(
        default=timedelta(minutes=5),
        ge=timedelta(seconds=1),
        le=timedelta(days=1),
        description="After so long, give or take a tenth, a connection is closed when its calls are done",
    )

    @field_validator("listen")
    @classmethod
    def _addresses_differ(cls, listen: list[str]) -> list[str]:
        repeated = [address for address, times in Counter(listen).items() if times > 1 and not address.endswith(":0")]
        if repeated:
            raise ValueError(f"addresses must differ; given more than once: {', '.join(repeated)}")
        return listen

    max_message_bytes: int = Field(
        default=64 * 2**20, ge=1024, le=2**30, description="Largest request and largest response"
    )


class MetricsSettings(_Section):
    """The HTTP listener of /metrics."""

    host: str = "0.0.0.0"
    port: Port = 9001


class DrainSettings(_Section):
    """The end of the process."""

    timeout_seconds: float = Field(
        default=25, ge=0, le=3600, description="How long calls in flight may take after SIGTERM"
    )


class LogSettings(_Section):
    """The log on stdout."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


class RuntimeSettings(_Section):
    """How models run."""

    cpus: int | None = Field(
        default=None, ge=1, le=1024, description="Threads a model may use; default: the CPUs of the container"
    )


Api = Literal[
    "health",
    "metadata",
    "inference",
    "shared-memory",
    "model-config",
    "model-repository",
    "statistics",
    "trace",
    "logging",
]
"""Groups of calls, under Triton's names for restricted protocols."""


class Restriction(_Section):
    """Groups of calls that need a header."""

    apis: list[Api] = Field(min_length=1, description="The groups")
    header: str = Field(
        pattern=r"^[a-z0-9][a-z0-9._-]*$", description="Name of the header, in lower case; gRPC callers prefix it"
    )
    value: SecretStr = Field(min_length=1, description="What it must hold")


class AdministrationSettings(_Section):
    """What callers may change at runtime."""

    mode: Literal["ReadOnly", "Full"] = Field(
        default="ReadOnly", description="Full lets callers load and unload models and change trace and log settings"
    )
    restricted: list[Restriction] = Field(default=[], description="Calls that need a header")

    @field_validator("restricted")
    @classmethod
    def _groups_are_unique(cls, restricted: list[Restriction]) -> list[Restriction]:
        times = Counter(api for restriction in restricted for api in restriction.apis)
        repeated = [api for api, count in times.items() if count > 1]
        if repeated:
            raise ValueError(f"an API can be restricted once; restricted more than once: {', '.join(repeated)}")
        return restricted


class QueueSettings(_Section):
    """How much may wait for each model."""

    max_size: int = Field(default=4096, ge=1, le=1_000_000, description="Rows; calls, where the model is never batched")
    max_bytes: int = Field(default=256 * 2**20, ge=1024, le=2**40, description="Bytes of the requests")


class SharedMemorySettings(_Section):
    """Tensors in POSIX shared memory, for callers on the same host."""

    enabled: bool = False
    key_prefix: str = Field(
        default="/polyglot_", pattern=r"^/[^/]+$", description="What the names of shared memory objects begin with"
    )
    max_bytes: int = Field(
        default=256 * 2**20, ge=1, le=2**40, description="Bytes there of one request's inputs, and of its outputs"
    )


class Settings(BaseSettings):
    """All settings of the process."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="POLYGLOT_INFERENCE__",
        env_prefix_target="all",
        env_nested_delimiter="__",
    )

    models: list[ModelSettings] = Field(min_length=1)
    grpc: GrpcSettings = GrpcSettings()
    metrics: MetricsSettings = MetricsSettings()
    drain: DrainSettings = DrainSettings()
    log: LogSettings = LogSettings()
    runtime: RuntimeSettings = RuntimeSettings()
    administration: AdministrationSettings = AdministrationSettings()
    queue: QueueSettings = QueueSettings()
    shared_memory: SharedMemorySettings = Field(default=SharedMemorySettings(), alias="sharedMemory")

    @field_validator("models")
    @classmethod
    def _names_are_unique(cls, models: list[ModelSettings]) -> list[ModelSettings]:
        repeated = [name for name, times in Counter(model.name for model in models).items() if times > 1]
        if repeated:
            raise ValueError(f"model names must be unique; given more than once: {', '.join(repeated)}")
        return models

    def of_worker(self, number: int, available_cpus: int) -> Self:
        """Those of one of the processes: its address, and its share of the CPUs."""
        cpus = self.runtime.cpus or max(1, available_cpus // len(self.grpc.listen))
        grpc = self.grpc.model_copy(update={"listen": [self.grpc.listen[number]]})
        return self.model_copy(update={"grpc": grpc, "runtime": RuntimeSettings(cpus=cpus)})

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment before file; no other source."""
        del init_settings, dotenv_settings, file_secret_settings
        return env_settings, YamlConfigSettingsSource(settings_cls)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the settings.

        Raises
        ------
        SettingsError
            The file is missing or no YAML mapping, or a field is wrong, missing or unknown.
        """
        _require_mapping(path)

        class FromFile(cls):  # type: ignore[valid-type,misc]  # the YAML source takes its path from the class
            model_config = SettingsConfigDict(yaml_file=path)

        try:
            return FromFile()
        except ValidationError as error:
            lines = (
                f"{'.'.join(map(str, issue['loc'])) or 'configuration'}: {issue['msg']}" for issue in error.errors()
            )
            raise SettingsError("\n".join(lines)) from None


def _require_mapping(path: Path) -> None:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, *_FAULTS_OF_SCALARS, RecursionError) as error:
        raise SettingsError(f"{path} is not YAML: {type(error).__name__}: {error}") from None
    if not isinstance(content, dict):
        raise SettingsError(f"{path} must hold a YAML mapping with the key 'models'")
    nameless = [key for key in content if not isinstance(key, str)]
    if nameless:
        raise SettingsError(f"{nameless[0]!r}: the name of a field must be a text")

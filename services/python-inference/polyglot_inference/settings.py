"""What the process is told: a YAML file, overridden by variables such as POLYGLOT_INFERENCE__GRPC__PORT=9100."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.alias_generators import to_camel
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource

Port = Annotated[int, Field(ge=0, le=65535, description="TCP port; 0 lets the kernel choose")]


class SettingsError(Exception):
    """The configuration cannot be used; the message has one line per wrong field."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)


class ModelSettings(_Section):
    """One model to serve."""

    name: str = Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$", description="Name that callers use")
    format: Literal["ONNX", "Python"]
    path: Path = Field(description="Folder with model.onnx (ONNX) or model.py (Python)")


class GrpcSettings(_Section):
    """The gRPC listener."""

    host: str = "0.0.0.0"
    port: Port = 9000
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


class Settings(BaseSettings):
    """All settings of the process."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="POLYGLOT_INFERENCE__", env_nested_delimiter="__"
    )

    models: list[ModelSettings] = Field(min_length=1)
    grpc: GrpcSettings = GrpcSettings()
    metrics: MetricsSettings = MetricsSettings()
    drain: DrainSettings = DrainSettings()
    log: LogSettings = LogSettings()
    runtime: RuntimeSettings = RuntimeSettings()

    @field_validator("models")
    @classmethod
    def _names_are_unique(cls, models: list[ModelSettings]) -> list[ModelSettings]:
        repeated = [name for name, times in Counter(model.name for model in models).items() if times > 1]
        if repeated:
            raise ValueError(f"model names must be unique; given more than once: {', '.join(repeated)}")
        return models

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
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not YAML: {error}") from None
    if not isinstance(content, dict):
        raise SettingsError(f"{path} must hold a YAML mapping with the key 'models'")

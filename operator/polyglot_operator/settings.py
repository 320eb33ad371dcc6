"""What the operator's process is told from outside: `POLYGLOT_…` variables, set by the chart's values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from polyglot_operator.build.facts import Images


class Settings(BaseSettings):
    """Settings of `polyglot run`; tracing follows the standard `OTEL_…` variables instead."""

    model_config = SettingsConfigDict(env_prefix="POLYGLOT_", frozen=True, extra="ignore")

    gateway_image: str = Field(min_length=1, description="Image of gateways whose spec names none")
    inference_image: str = Field(min_length=1, description="Image of inference servers whose spec names none")
    namespaces: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Namespaces to serve, separated by commas; all of the cluster when empty"
    )
    cluster_domain: str = Field(default="cluster.local", description="DNS domain of the cluster")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="Least level logged")
    context: str | None = Field(default=None, description="Kubeconfig context to use outside a cluster")
    workers: int = Field(default=16, ge=1, le=256, description="Services reconciled at the same time")
    health_port: int = Field(default=8080, ge=0, le=65535, description="Port of /healthz")
    metrics_port: int = Field(default=8081, ge=0, le=65535, description="Port of /metrics")
    pod_name: str = Field(default="polyglot-operator", description="Name under which events are reported")

    @field_validator("namespaces", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value

    @property
    def images(self) -> Images:
        """Images of components whose spec names none."""
        return Images(gateway=self.gateway_image, inference=self.inference_image)

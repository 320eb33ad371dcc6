"""Triton's extensions that tell and change what the server does: configuration, statistics, repository, traces, log."""

import logging
from collections.abc import Mapping
from typing import Final

from polyglot_inference.errors import (
    ModelLoadError,
    ModelLoadFailedError,
    ModelNotReadyError,
    ServerDrainingError,
    UnsupportedError,
)
from polyglot_inference.lifecycle import Lifecycle, State
from polyglot_inference.protocol.access import Access
from polyglot_inference.protocol.calls import Call, Method
from polyglot_inference.protocol.log_settings import changed_log_settings, log_settings
from polyglot_inference.protocol.model_config import model_config
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.protocol.statistics import model_statistics
from polyglot_inference.protocol.trace_settings import trace_change, trace_settings
from polyglot_inference.repository.models import ModelRepository, ModelState
from polyglot_inference.repository.served import VERSION
from polyglot_inference.telemetry.logs import LogControl
from polyglot_inference.telemetry.traces import Tracing

# Triton's clients always send it. It asks for the models that an ensemble is made of; there are none here.
_UNLOAD_DEPENDENTS: Final = "unload_dependents"

_log = logging.getLogger(__name__)


class Administration:
    """Answers administrative calls.

    Parameters
    ----------
    repository
        The models.
    lifecycle
        Tells whether the models may be changed.
    access
        Tells whether callers may change anything.
    tracing, logs
        What the trace and log settings are of.
    """

    EXTENSIONS: Final = ("logging", "model_configuration", "model_repository", "statistics", "trace")
    """What the server's metadata names."""

    def __init__(
        self, repository: ModelRepository, lifecycle: Lifecycle, access: Access, tracing: Tracing, logs: LogControl
    ) -> None:
        self._repository = repository
        self._lifecycle = lifecycle
        self._access = access
        self._tracing = tracing
        self._logs = logs

    def methods(self) -> dict[str, Method]:
        """The methods by the names of their RPCs."""
        return {
            "ModelConfig": self.model_config,
            "ModelStatistics": self.model_statistics,
            "RepositoryIndex": self.repository_index,
            "RepositoryModelLoad": self.repository_model_load,
            "RepositoryModelUnload": self.repository_model_unload,
            "TraceSetting": self.trace_setting,
            "LogSettings": self.log_settings,
        }

    async def model_config(self, request: pb.ModelConfigRequest, _call: Call) -> pb.ModelConfigResponse:
        """A loaded model's configuration."""
        return pb.ModelConfigResponse(config=model_config(self._repository.find(request.name, request.version)))

    async def model_statistics(self, request: pb.ModelStatisticsRequest, _call: Call) -> pb.ModelStatisticsResponse:
        """The statistics of one loaded model, or of all; they begin anew with each load."""
        models = [self._repository.find(request.name, request.version)] if request.name else self._repository.served()
        return pb.ModelStatisticsResponse(model_stats=map(model_statistics, models))

    async def repository_index(self, request: pb.RepositoryIndexRequest, _call: Call) -> pb.RepositoryIndexResponse:
        """The configured models and their states."""
        _require_the_repository(request.repository_name)
        return pb.RepositoryIndexResponse(
            models=[
                pb.RepositoryIndexResponse.ModelIndex(
                    name=entry.name, version=VERSION, state=entry.state.value, reason=entry.reason
                )
                for entry in self._repository.index()
                if entry.state is ModelState.READY or not request.ready
            ]
        )

    async def repository_model_load(
        self, request: pb.RepositoryModelLoadRequest, _call: Call
    ) -> pb.RepositoryModelLoadResponse:
        """Load a configured model from its folder, or load it again; answers when it can be called."""
        self._require_change(f"loading model {request.model_name!r}", request.repository_name, request.parameters)
        try:
            await self._repository.load(request.model_name)
        except ModelLoadError as error:
            raise ModelLoadFailedError(str(error)) from error
        return pb.RepositoryModelLoadResponse()

    async def repository_model_unload(
        self, request: pb.RepositoryModelUnloadRequest, _call: Call
    ) -> pb.RepositoryModelUnloadResponse:
        """Unload a model; answers when its calls in flight are answered and it is gone."""
        parameters = {key: value for key, value in request.parameters.items() if key != _UNLOAD_DEPENDENTS}
        self._require_change(f"unloading model {request.model_name!r}", request.repository_name, parameters)
        await self._repository.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse()

    async def trace_setting(self, request: pb.TraceSettingRequest, _call: Call) -> pb.TraceSettingResponse:
        """Change what is traced, of one model or of all, where settings are given; answer what holds now."""
        model, sampler = request.model_name, self._tracing.sampler
        if model:
            self._repository.require_configured(model)
        if request.settings:
            self._access.require_changes_allowed("changing trace settings")
            change = trace_change(request.settings)
            if change.get("on") and not self._tracing.exports:
                raise UnsupportedError(
                    "trace_level TIMESTAMPS is not possible: the server has nowhere to send traces; start it with"
                    " OTEL_EXPORTER_OTLP_ENDPOINT"
                )
            sampler.change(model, change)
            _log.info("Changed trace settings", extra={"model": model, "settings": sorted(request.settings)})
        return trace_settings(sampler.settings(model), exported=self._tracing.exports)

    async def log_settings(self, request: pb.LogSettingsRequest, _call: Call) -> pb.LogSettingsResponse:
        """Change what is logged where settings are given; answer what holds now."""
        if request.settings:
            self._access.require_changes_allowed("changing log settings")
            self._logs.change(changed_log_settings(self._logs.settings, request.settings))
            _log.info("Changed log settings", extra={"settings": sorted(request.settings)})
        return log_settings(self._logs.settings)

    def _require_change(
        self, change: str, repository: str, parameters: Mapping[str, pb.ModelRepositoryParameter]
    ) -> None:
        self._access.require_changes_allowed(change)
        _require_the_repository(repository)
        if parameters:
            raise UnsupportedError(
                f"{change}: parameter {', '.join(sorted(parameters))} is not supported; a model is loaded from the"
                " folder that the server's setting models names"
            )
        if self._lifecycle.is_draining:
            raise ServerDrainingError(f"{change} is refused: the server is shutting down")
        if self._lifecycle.state is State.STARTING:
            raise ModelNotReadyError(f"{change} is refused: the server still loads its models; try again")


def _require_the_repository(name: str) -> None:
    if name:
        raise UnsupportedError(f"repository {name!r} is unknown: there is one, which has no name; leave it empty")

"""Loads the configured models and finds them by name and version."""

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from polyglot_inference.errors import ModelNotFoundError, ModelNotReadyError
from polyglot_inference.runtime.executor import ModelExecutor
from polyglot_inference.runtime.model import Model
from polyglot_inference.runtime.onnx import OnnxModel
from polyglot_inference.runtime.python import PythonModel
from polyglot_inference.settings import ModelSettings
from polyglot_inference.telemetry.metrics import Metrics

VERSION: Final = "1"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A loaded model under the name callers use, and the threads it runs on."""

    name: str
    model: Model
    executor: ModelExecutor


class ModelRepository:
    """The configured models, before and after they are loaded.

    Parameters
    ----------
    configured
        The models to load; their names are known to callers from the start.
    cpus
        How many threads a model may use.
    metrics
        Told load and queueing times.
    """

    def __init__(self, configured: Sequence[ModelSettings], cpus: int, metrics: Metrics) -> None:
        self._configured = {settings.name: settings for settings in configured}
        self._cpus = cpus
        self._metrics = metrics
        self._served: dict[str, ServedModel] = {}

    async def load(self) -> None:
        """Load the models one after the other, off the event loop.

        Raises
        ------
        ModelLoadError
            A model cannot be served.
        """
        # Not the loop's default threads: the loop would wait for them at its end, even when SIGTERM comes while a
        # model loads.
        loader = ThreadPoolExecutor(1, thread_name_prefix="model-loader")
        for settings in self._configured.values():
            started = time.perf_counter()
            model = await asyncio.get_running_loop().run_in_executor(loader, self._open, settings)
            seconds = time.perf_counter() - started
            waited = self._metrics.queue_seconds.labels(settings.name).observe
            self._served[settings.name] = ServedModel(
                settings.name, model, ModelExecutor(settings.name, model.concurrency, waited)
            )
            self._metrics.model_load_seconds.labels(settings.name).set(seconds)
            _log.info(
                "Loaded model", extra={"model": settings.name, "format": settings.format, "seconds": round(seconds, 3)}
            )
        loader.shutdown(wait=False)

    def find(self, name: str, version: str) -> ServedModel:
        """The model to call; an empty version means the only one.

        Raises
        ------
        ModelNotFoundError
            There is no such model or version.
        ModelNotReadyError
            The model is loading.
        """
        if name not in self._configured:
            served = ", ".join(self._configured)
            raise ModelNotFoundError(f"model {name!r} is not served here; served are: {served}")
        if version not in {"", VERSION}:
            raise ModelNotFoundError(f"model {name!r} has no version {version!r}; its only version is {VERSION!r}")
        if name not in self._served:
            raise ModelNotReadyError(f"model {name!r} is still loading; try again")
        return self._served[name]

    def close(self) -> None:
        """Drop the calls that wait for a model."""
        for served in self._served.values():
            served.executor.close()

    def _open(self, settings: ModelSettings) -> Model:
        if settings.format == "ONNX":
            return OnnxModel.load(settings.name, settings.path, self._cpus)
        return PythonModel.load(settings.name, settings.path)

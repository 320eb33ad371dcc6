"""Loads and unloads the configured models, and finds them by name and version."""

import asyncio
import enum
import logging
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from polyglot_inference.errors import ModelNotFoundError, ModelNotReadyError
from polyglot_inference.repository.progress import LoadProgress
from polyglot_inference.repository.served import VERSION, ServedModel, require_batchable
from polyglot_inference.runtime.model import Model
from polyglot_inference.runtime.onnx import OnnxModel
from polyglot_inference.runtime.python import PythonModel
from polyglot_inference.settings import ModelSettings, QueueSettings
from polyglot_inference.telemetry.metrics import Metrics
from polyglot_inference.telemetry.traces import Tracing

_log = logging.getLogger(__name__)


class ModelState(enum.Enum):
    """What can be done with a model; the names are Triton's."""

    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """A configured model, loaded or not."""

    name: str
    state: ModelState
    reason: str


@dataclass(slots=True)
class _Entry:
    settings: ModelSettings
    state: ModelState = ModelState.LOADING  # at start every model is loaded, one after the other
    reason: str = ""
    served: ServedModel | None = None
    # One change at a time.
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class ModelRepository:
    """The configured models, before and after they are loaded. Used on the event loop only.

    Parameters
    ----------
    configured
        The models to load; their names are known to callers from the start.
    limits
        How much may wait for each model.
    cpus
        How many threads a model may use.
    metrics, tracing
        Told what is loaded and ready, and every execution.
    """

    def __init__(
        self,
        configured: Sequence[ModelSettings],
        limits: QueueSettings,
        cpus: int,
        metrics: Metrics,
        tracing: Tracing,
    ) -> None:
        self._entries = {settings.name: _Entry(settings) for settings in configured}
        self._limits = limits
        self._cpus = cpus
        self._metrics = metrics
        self._tracing = tracing
        # Not the loop's default threads: the loop would wait for them at its end, even when SIGTERM comes while a
        # model loads.
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="model-loader")
        self._changes: set[asyncio.Task[None]] = set()

    async def load_all(self) -> None:
        """Load the models one after the other, off the event loop.

        Raises
        ------
        ModelLoadError
            A model cannot be served.
        """
        for entry in self._entries.values():
            await self._load(entry)

    async def load(self, name: str) -> None:
        """Load a model, or load it again: then the one before is served until the new one is ready.

        The change goes on when its caller leaves.

        Raises
        ------
        ModelNotFoundError
            No such model is configured.
        ModelLoadError
            It cannot be served; the one before, if any, is served still.
        """
        await self._change(name, self._load(self._entry(name)))

    async def unload(self, name: str) -> None:
        """Refuse new calls of a model, wait for those in flight and let it go.

        The change goes on when its caller leaves. Without effect when the model is not loaded.

        Raises
        ------
        ModelNotFoundError
            No such model is configured.
        """
        await self._change(name, self._unload(self._entry(name)))

    def find(self, name: str, version: str) -> ServedModel:
        """The model to call; an empty version means the only one.

        Raises
        ------
        ModelNotFoundError
            There is no such model or version.
        ModelNotReadyError
            The model is loading or not loaded.
        """
        entry = self._entry(name)
        if version not in {"", VERSION}:
            raise ModelNotFoundError(f"model {name!r} has no version {version!r}; its only version is {VERSION!r}")
        if entry.served is None:
            raise ModelNotReadyError(_why_not_ready(entry))
        return entry.served

    def require_configured(self, name: str) -> None:
        """Raise ModelNotFoundError for a model that is not configured, loaded or not."""
        self._entry(name)

    def served(self) -> list[ServedModel]:
        """The models that can be called."""
        return [entry.served for entry in self._entries.values() if entry.served]

    def index(self) -> list[IndexEntry]:
        """All configured models."""
        return [IndexEntry(name, entry.state, entry.reason) for name, entry in self._entries.items()]

    def close(self) -> None:
        """Drop the calls that wait for a model."""
        self._loader.shutdown(wait=False, cancel_futures=True)
        for served in self.served():
            served.executor.close()

    def _entry(self, name: str) -> _Entry:
        entry = self._entries.get(name)
        if entry is None:
            served = ", ".join(self._entries)
            raise ModelNotFoundError(f"model {name!r} is not served here; served are: {served}")
        return entry

    async def _change(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Finish a change, even when the caller who waits for it leaves."""
        task = asyncio.create_task(work)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(lambda done: _log_unwatched(name, done))
            raise

    async def _load(self, entry: _Entry) -> None:
        async with entry.lock:
            name, previous = entry.settings.name, entry.served
            if previous is None:
                self._enter(entry, ModelState.LOADING)
            started = time.perf_counter()
            try:
                progress = self._progress(entry)
                loop = asyncio.get_running_loop()
                model = await loop.run_in_executor(self._loader, self._open, entry.settings, progress)
            except Exception as error:
                self._metrics.model_loads.labels(name, "failed").inc()
                if previous is None:
                    self._enter(entry, ModelState.UNAVAILABLE, str(error))
                raise
            seconds = time.perf_counter() - started
            entry.served = ServedModel.of(entry.settings, model, self._limits, self._metrics, self._tracing)
            self._enter(entry, ModelState.READY)
            self._metrics.model_loads.labels(name, "loaded").inc()
            self._metrics.model_load_seconds.labels(name).set(seconds)
            self._metrics.model_load_progress.labels(name).set(1)
            _log.info(
                "Loaded model", extra={"model": name, "format": entry.settings.format, "seconds": round(seconds, 3)}
            )
            if previous:
                await _retire(previous)

    async def _unload(self, entry: _Entry) -> None:
        async with entry.lock:
            served, entry.served = entry.served, None
            if served is None:
                return
            self._enter(entry, ModelState.UNLOADING)
            await _retire(served)
            self._enter(entry, ModelState.UNAVAILABLE, "unloaded")
            _log.info("Unloaded model", extra={"model": served.name})

    def _enter(self, entry: _Entry, state: ModelState, reason: str = "") -> None:
        entry.state, entry.reason = state, reason
        self._metrics.model_ready.labels(entry.settings.name).set(state is ModelState.READY)

    def _progress(self, entry: _Entry) -> LoadProgress:
        loop = asyncio.get_running_loop()
        share = self._metrics.model_load_progress.labels(entry.settings.name)
        share.set(0)

        def enter(text: str) -> None:
            if entry.state is ModelState.LOADING:  # and not READY, with the model of an earlier loading
                entry.reason = text

        def tell(text: str) -> None:
            loop.call_soon_threadsafe(enter, text)

        return LoadProgress(entry.settings.name, share, tell)

    def _open(self, settings: ModelSettings, progress: LoadProgress) -> Model:
        model: Model
        if settings.format == "ONNX":
            model = OnnxModel.load(settings.name, settings.path, self._cpus)
        else:
            model = PythonModel.load(settings.name, settings.path, progress)
        if settings.batching:
            require_batchable(settings.name, model)
        return model


async def _retire(served: ServedModel) -> None:
    """Let a model go that new calls no longer find."""
    await served.in_flight.idle()
    served.executor.close()


def _why_not_ready(entry: _Entry) -> str:
    name = entry.settings.name
    if entry.state is ModelState.LOADING:
        return f"model {name!r} is still loading{f' ({entry.reason})' if entry.reason else ''}; try again"
    if entry.state is ModelState.UNLOADING:
        return f"model {name!r} is being unloaded; the call was not executed"
    return f"model {name!r} is not loaded: {entry.reason}"


def _log_unwatched(name: str, task: "asyncio.Task[None]") -> None:
    """Tell the log how a change failed whose caller left."""
    error = None if task.cancelled() else task.exception()
    if error:
        _log.error("Failed to change model: %s", error, extra={"model": name})

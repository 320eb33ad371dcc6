"""Models written as a Python class; `author.py` says what such a class has.

Arrays come in read-only; BYTES are object arrays of bytes. `predict` and the steps of a plain generator `stream` are
called by one thread at a time. The async generators of `stream` run beside each other on an event loop of the model's.
"""

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.ma import MaskedArray

from polyglot_inference.errors import InferenceError, ModelFailedError, UnsupportedError
from polyglot_inference.runtime.author import Authored, Method, Progress
from polyglot_inference.runtime.author_loop import AuthorLoop
from polyglot_inference.runtime.model import NO_REQUEST, Request, Steps, Stream
from polyglot_inference.tensors import BYTES, Array, TensorSpec


def _untold(fraction: float, text: str = "") -> None:
    """Progress that nobody asks for."""
    del fraction, text


class PythonModel:
    """An instance of an author's class."""

    platform = "python"
    # A class need not be thread-safe; more parallelism comes from more replicas.
    concurrency = 1

    def __init__(self, name: str, authored: Authored) -> None:
        self.inputs = authored.inputs
        self.outputs = authored.outputs
        self.stream: Stream | None = functools.partial(self._stream, authored.stream) if authored.stream else None
        methods = (authored.predict, authored.stream)
        self.wants_request = any(method is not None and method.wants_request for method in methods)
        self._name = name
        self._authored = authored
        self._loop = AuthorLoop(f"model-{name}_loop")

    @classmethod
    def load(cls, name: str, folder: Path, progress: Progress = _untold) -> "PythonModel":
        """Import `folder`/model.py, make a Model and call its `load`.

        Raises
        ------
        ModelLoadError
            The file or class is missing, its declarations or methods are wrong, or its code raises.
        """
        return cls(name, Authored.load(name, folder, progress))

    def predict(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], request: Request = NO_REQUEST
    ) -> dict[str, Array]:
        """Call the author's `predict` and hold its answer to the declared outputs.

        Raises
        ------
        UnsupportedError
            The class has no `predict`, only `stream`.
        ModelFailedError
            It raised, or its answer lacks an output or has one of another dtype or shape.
        """
        if self._authored.predict is None:
            raise UnsupportedError(
                f"model {self._name!r} streams its answers and has no single one: call ModelStreamInfer"
                " (REST: generate_stream)"
            )
        try:
            return self._checked(self._authored.predict(dict(inputs), request), outputs)
        except InferenceError:
            raise  # a model may choose the caller's error, for example InvalidTensorError
        except Exception as error:
            raise self._failed(error) from error

    def _stream(self, stream: Method, inputs: Mapping[str, Array], outputs: Sequence[str], request: Request) -> Steps:
        """The answers of the author's `stream`, held to the declared outputs; errors are those of `predict`."""
        steps = stream(dict(inputs), request)
        if isinstance(steps, AsyncGenerator):
            return self._loop.pull(self._async_steps(steps, outputs))
        return self._steps(steps, outputs)

    async def _async_steps(
        self, steps: AsyncGenerator[object, None], outputs: Sequence[str]
    ) -> AsyncGenerator[Mapping[str, Array], None]:
        try:
            async with contextlib.aclosing(steps):
                async for answer in steps:
                    yield self._checked(answer, outputs)
        except (InferenceError, GeneratorExit):
            raise
        except BaseException as error:  # SystemExit would end the loop, and a caller not wait for what is cancelled
            if isinstance(error, asyncio.CancelledError) and _is_being_cancelled():
                raise
            raise self._failed(error) from error

    def _steps(
        self, steps: Generator[object, None, None], outputs: Sequence[str]
    ) -> Generator[Mapping[str, Array], None, None]:
        try:
            with contextlib.closing(steps):
                for answer in steps:
                    yield self._checked(answer, outputs)
        except InferenceError:
            raise
        except Exception as error:
            raise self._failed(error) from error

    def _failed(self, error: BaseException) -> ModelFailedError:
        try:
            text = str(error)
        except Exception:  # noqa: BLE001 - the author's own class of errors may be wrong, too
            text = "an error whose text cannot be read"
        return ModelFailedError(f"model {self._name!r} raised {type(error).__name__}: {text}")

    def _checked(self, answer: object, outputs: Sequence[str]) -> dict[str, Array]:
        if not isinstance(answer, Mapping):
            raise ModelFailedError(
                f"model {self._name!r} answered with a {type(answer).__name__}; an answer is a dict of arrays"
            )
        return {spec.name: self._checked_output(spec, answer) for spec in self.outputs if spec.name in outputs}

    def _checked_output(self, spec: TensorSpec, answer: Mapping[str, Any]) -> Array:
        tensor = answer.get(spec.name)
        if not isinstance(tensor, np.ndarray):
            fault = f"as {type(tensor).__name__}, not as a numpy array"
        elif isinstance(tensor, MaskedArray):
            fault = "as MaskedArray, and a tensor has no mask; fill it with .filled()"
        elif tensor.dtype != spec.dtype:
            fault = f"with dtype {tensor.dtype}, but it is declared {spec.datatype} ({spec.dtype})"
        elif not spec.admits(tensor.shape):
            fault = f"with shape {list(tensor.shape)}, but it is declared {list(spec.shape)}"
        elif spec.datatype == BYTES and not all(isinstance(element, bytes) for element in tensor.flat):
            fault = "with elements that are not bytes; encode text with .encode()"
        else:
            return np.asarray(tensor)  # of a subclass, such as np.matrix, which would not be reshaped as an array is
        raise ModelFailedError(f"model {self._name!r} returned output {spec.name!r} {fault}")


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

"""The one model that a server of the comparison serves, the same in all of them; told by variables RIVAL_*."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

Arrays = dict[str, Any]

NAME = os.environ["RIVAL_MODEL"]
#: The ONNX file; empty for the identity.
FILE = os.environ.get("RIVAL_FILE", "")
PORT = int(os.environ["RIVAL_PORT"])
GRPC_PORT = int(os.environ["RIVAL_GRPC_PORT"])
METRICS_PORT = int(os.environ["RIVAL_METRICS_PORT"])
WORKERS = int(os.environ["RIVAL_WORKERS"])
#: Rows that a server may stack; 1 turns its batching off.
BATCH = int(os.environ["RIVAL_BATCH"])
#: How long a server that can't batch without waiting waits for more rows; the time that MLServer's guide begins with.
BATCH_SECONDS = 0.002
THREADS = int(os.environ["RIVAL_THREADS"])

_DATATYPES = {"tensor(float)": "FP32", "tensor(int64)": "INT64"}


@dataclass(frozen=True)
class Tensor:
    """What a model declares; the first dimension, the rows, is any."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Identity:
    """Answers `y` with what `x` holds."""

    inputs = (Tensor("x", "FP32", (-1, -1)),)
    outputs = (Tensor("y", "FP32", (-1, -1)),)

    def __call__(self, arrays: Arrays) -> Arrays:
        """Run the model."""
        return {"y": arrays["x"]}


class Onnx:
    """A model on ONNX Runtime."""

    def __init__(self) -> None:
        import onnxruntime  # noqa: PLC0415 - the identity needs none

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        self._session = onnxruntime.InferenceSession(FILE, options, providers=["CPUExecutionProvider"])
        self.inputs = tuple(_declared(tensor) for tensor in self._session.get_inputs())
        self.outputs = tuple(_declared(tensor) for tensor in self._session.get_outputs())
        self._names = [tensor.name for tensor in self.outputs]

    def __reduce__(self) -> tuple[Any, ...]:
        """Load the model anew where it is sent to another process, as KServe does with its workers."""
        return type(self), ()

    def __call__(self, arrays: Arrays) -> Arrays:
        """Run the model."""
        return dict(zip(self._names, self._session.run(self._names, arrays), strict=True))


def model() -> Identity | Onnx:
    """Load the model."""
    return Onnx() if FILE else Identity()


class SingleTensor:
    """The model for servers whose own JSON has one array in and one out: the first input, the last output."""

    def __init__(self) -> None:
        self._model = model()
        self._input, self._output = self._model.inputs[0].name, self._model.outputs[-1].name

    def __call__(self, rows: Any) -> Any:
        """Run the model on rows."""
        return self._model({self._input: np.asarray(rows, dtype=np.float32)})[self._output]


def _declared(tensor: Any) -> Tensor:
    shape = tuple(size if isinstance(size, int) else -1 for size in tensor.shape)
    return Tensor(tensor.name, _DATATYPES[tensor.type], shape)

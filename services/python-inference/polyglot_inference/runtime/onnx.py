"""ONNX models on ONNX Runtime."""

import ctypes
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, cast

import ml_dtypes
import numpy as np

# Read when the library is loaded: without it ONNX Runtime reports usage to its vendor and keeps an id below ~/.cache.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime as ort

from polyglot_inference.errors import InvalidTensorError, ModelLoadError
from polyglot_inference.runtime.model import NO_REQUEST, Request
from polyglot_inference.tensors import BYTES, DYNAMIC, Array, TensorSpec

FILE_NAME: Final = "model.onnx"

_BF16: Final = "BF16"

# ONNX Runtime's names of element types. Source: onnxruntime NodeArg.type.
_DATATYPES: Final = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(bfloat16)": _BF16,
    "tensor(string)": BYTES,
}
# Its number among ONNX's element types. Source: onnx.proto, TensorProto.DataType.
_ONNX_BFLOAT16: Final = 16


class OnnxModel:
    """One ONNX Runtime session. A session may be run by many threads at once."""

    platform = "onnxruntime_onnx"
    stream = None
    wants_request = False

    def __init__(
        self,
        session: ort.InferenceSession,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        concurrency: int,
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.concurrency = concurrency
        self._session = session
        self._text_inputs = frozenset(spec.name for spec in inputs if spec.datatype == BYTES)
        self._text_outputs = frozenset(spec.name for spec in outputs if spec.datatype == BYTES)
        # ONNX Runtime makes numpy arrays of all results or of none, and knows no array of BF16.
        self._by_values = any(spec.datatype == _BF16 for spec in outputs)

    @classmethod
    def load(cls, name: str, folder: Path, cpus: int) -> "OnnxModel":
        """Open `folder`/model.onnx, to run with `cpus` threads and up to `cpus` calls at a time.

        Raises
        ------
        ModelLoadError
            The file is missing, no valid ONNX model, or has tensors that cannot be carried.
        """
        path = folder / FILE_NAME
        if not path.is_file():
            raise ModelLoadError(
                f"model {name!r}: {path} does not exist; a model of format ONNX is a folder with a file {FILE_NAME}"
            )
        try:
            session = ort.InferenceSession(path, _session_options(cpus), providers=_providers())
        except Exception as error:
            raise ModelLoadError(f"model {name!r}: ONNX Runtime {ort.__version__} refuses {path}: {error}") from error
        inputs = tuple(_spec(name, "input", argument) for argument in session.get_inputs())
        outputs = tuple(_spec(name, "output", argument) for argument in session.get_outputs())
        _require_values(name, inputs, outputs)
        return cls(session, inputs, outputs, cpus)

    def predict(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], _request: Request = NO_REQUEST
    ) -> dict[str, Array]:
        """Run the session for the requested outputs only."""
        results = self._run_by_values(inputs, outputs) if self._by_values else self._run(inputs, outputs)
        return {
            name: _to_bytes(tensor) if name in self._text_outputs else tensor
            for name, tensor in zip(outputs, results, strict=True)
        }

    def _run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        feed = {name: self._fed(name, tensor) for name, tensor in inputs.items()}
        return cast("list[Array]", self._session.run(list(outputs), feed))

    def _fed(self, name: str, tensor: Array) -> Array | ort.OrtValue:
        if name in self._text_inputs:
            return _to_text(name, tensor)
        return _to_value(tensor) if tensor.dtype == ml_dtypes.bfloat16 else tensor

    def _run_by_values(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        feed = {name: _to_value(tensor) for name, tensor in inputs.items()}
        return [_to_array(value) for value in self._session.run_with_ort_values(list(outputs), feed)]


def _session_options(cpus: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    # The pool is the session's, shared by its concurrent calls: `cpus` callers and `cpus - 1` helpers at most.
    options.intra_op_num_threads = cpus
    options.inter_op_num_threads = 1
    # Idle threads that spin use up the container's CPU quota.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _providers() -> list[str]:
    """A GPU first where ONNX Runtime was built for one; the CPU otherwise and for what the GPU cannot run."""
    return [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in ort.get_available_providers()]


def _spec(model: str, role: str, argument: ort.NodeArg) -> TensorSpec:
    if argument.type not in _DATATYPES:
        raise ModelLoadError(
            f"model {model!r}: {role} {argument.name!r} is a {argument.type}, which the protocol cannot carry;"
            " export the model with plain tensors (for scikit-learn classifiers: zipmap=False)"
        )
    # A dynamic dimension is a name or None.
    shape = tuple(size if isinstance(size, int) and size >= 0 else DYNAMIC for size in argument.shape)
    return TensorSpec(argument.name, _DATATYPES[argument.type], shape)


def _require_values(model: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """Refuse text beside BF16 outputs, which ONNX Runtime gives as values alone: it makes none of text."""
    halves = [spec.name for spec in outputs if spec.datatype == _BF16]
    texts = [spec.name for spec in (*inputs, *outputs) if spec.datatype == BYTES]
    if halves and texts:
        raise ModelLoadError(
            f"model {model!r}: output {halves[0]!r} is a tensor(bfloat16) in a model with text ({texts[0]!r}), which"
            " ONNX Runtime cannot run from Python; end the model with a Cast of that output to float"
        )


def _to_value(tensor: Array) -> ort.OrtValue:
    """Give a tensor to ONNX Runtime; it reads the array's own memory."""
    if tensor.dtype == ml_dtypes.bfloat16:
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(tensor.view(np.uint16), _ONNX_BFLOAT16)
    return ort.OrtValue.ortvalue_from_numpy(tensor)


def _to_array(value: ort.OrtValue) -> Array:
    if value.element_type() != _ONNX_BFLOAT16:
        return cast("Array", value.numpy())
    shape = value.shape()
    size = math.prod(shape) * np.dtype(ml_dtypes.bfloat16).itemsize
    # The results of a run are in the memory of the CPU, also those of a GPU.
    return np.frombuffer(ctypes.string_at(value.data_ptr(), size), dtype=ml_dtypes.bfloat16).reshape(shape)


def _to_text(name: str, tensor: Array) -> Array:
    """ONNX strings are UTF-8 text, BYTES elements are anything."""
    try:
        return _each(bytes.decode, tensor)
    except UnicodeDecodeError as error:
        raise InvalidTensorError(f"input {name!r}: an ONNX string must be UTF-8: {error}") from None


def _to_bytes(tensor: Array) -> Array:
    return _each(str.encode, tensor)


def _each(convert: Callable[..., object], tensor: Array) -> Array:
    converted = np.empty(tensor.size, dtype=np.object_)
    for index, element in enumerate(tensor.flat):
        converted[index] = convert(element)
    return converted.reshape(tensor.shape)

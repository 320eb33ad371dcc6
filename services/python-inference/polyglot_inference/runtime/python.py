"""Models written as a Python class.

A folder holds `model.py` with `class Model`: `inputs` and `outputs` (lists of `TensorSpec`, or of dicts with its
fields), `load(path)`, called once with the folder, and `predict(inputs)`, a dict of numpy arrays to a dict of numpy
arrays. Arrays come in read-only; BYTES are object arrays of bytes. `predict` is called by one thread at a time. Other
modules of the folder are imported relatively: `from .tokens import split`.
"""

import importlib.util
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np

from polyglot_inference.errors import InferenceError, ModelFailedError, ModelLoadError
from polyglot_inference.tensors import BYTES, Array, TensorSpec

FILE_NAME: Final = "model.py"
CLASS_NAME: Final = "Model"


class PythonModel:
    """An instance of a user's class."""

    platform = "python"
    # A class need not be thread-safe; more parallelism comes from more replicas.
    concurrency = 1

    def __init__(
        self, name: str, instance: Any, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._name = name
        self._instance = instance

    @classmethod
    def load(cls, name: str, folder: Path) -> "PythonModel":
        """Import `folder`/model.py, make a Model and call its `load`.

        Raises
        ------
        ModelLoadError
            The file or class is missing, its declarations are wrong, or its code raises.
        """
        model_class = _model_class(name, folder)
        inputs = _specs(name, "inputs", getattr(model_class, "inputs", None))
        outputs = _specs(name, "outputs", getattr(model_class, "outputs", None))
        for method in ("load", "predict"):
            if not callable(getattr(model_class, method, None)):
                raise ModelLoadError(f"model {name!r}: class {CLASS_NAME} in {FILE_NAME} has no method {method!r}")
        try:
            instance = model_class()
            instance.load(folder)
        except Exception as error:
            raise ModelLoadError(f"model {name!r}: {CLASS_NAME}.load raised {type(error).__name__}: {error}") from error
        return cls(name, instance, inputs, outputs)

    def predict(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Call the user's `predict` and hold its answer to the declared outputs.

        Raises
        ------
        ModelFailedError
            It raised, or its answer lacks an output or has one of another dtype or shape.
        """
        try:
            answer = self._instance.predict(dict(inputs))
        except InferenceError:
            raise  # a model may choose the caller's error, for example InvalidTensorError
        except Exception as error:
            raise ModelFailedError(f"model {self._name!r} raised {type(error).__name__}: {error}") from error
        if not isinstance(answer, Mapping):
            raise ModelFailedError(
                f"model {self._name!r} returned a {type(answer).__name__}; predict must return a dict of arrays"
            )
        return {spec.name: self._checked(spec, answer) for spec in self.outputs if spec.name in outputs}

    def _checked(self, spec: TensorSpec, answer: Mapping[str, Any]) -> Array:
        tensor = answer.get(spec.name)
        origin = f"model {self._name!r} returned output {spec.name!r}"
        if not isinstance(tensor, np.ndarray):
            raise ModelFailedError(f"{origin} as {type(tensor).__name__}, not as a numpy array")
        if tensor.dtype != spec.dtype:
            raise ModelFailedError(
                f"{origin} with dtype {tensor.dtype}, but it is declared {spec.datatype} ({spec.dtype})"
            )
        if not spec.admits(tensor.shape):
            raise ModelFailedError(f"{origin} with shape {list(tensor.shape)}, but it is declared {list(spec.shape)}")
        if spec.datatype == BYTES and not all(isinstance(element, bytes) for element in tensor.flat):
            raise ModelFailedError(f"{origin} with elements that are not bytes; encode text with .encode()")
        return tensor


def _model_class(name: str, folder: Path) -> type[Any]:
    path = folder / FILE_NAME
    if not path.is_file():
        raise ModelLoadError(
            f"model {name!r}: {path} does not exist; a model of format Python is a folder with a file {FILE_NAME}"
        )
    try:
        module = _import(f"polyglot_models_{name}", path)
    except Exception as error:
        raise ModelLoadError(f"model {name!r}: importing {path} raised {type(error).__name__}: {error}") from error
    model_class = getattr(module, CLASS_NAME, None)
    if not isinstance(model_class, type):
        raise ModelLoadError(f"model {name!r}: {path} defines no class {CLASS_NAME}")
    return model_class


def _import(package: str, path: Path) -> ModuleType:
    """Import the file as a module of a package of its own, so that two models may both have a `tokens.py`."""
    parent = ModuleType(package)
    parent.__path__ = [str(path.parent)]
    sys.modules[package] = parent
    qualified = f"{package}.{path.stem}"
    spec = importlib.util.spec_from_file_location(qualified, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python source file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[qualified] = module
    spec.loader.exec_module(module)
    return module


def _specs(name: str, role: str, declared: object) -> tuple[TensorSpec, ...]:
    if not isinstance(declared, Iterable):
        raise ModelLoadError(f"model {name!r}: class {CLASS_NAME} must declare {role!r} as a list of TensorSpec")
    try:
        specs = tuple(item if isinstance(item, TensorSpec) else TensorSpec(**item) for item in declared)
    except (TypeError, ValueError) as error:
        raise ModelLoadError(f"model {name!r}: {role!r} of class {CLASS_NAME} is wrong: {error}") from error
    if len({spec.name for spec in specs}) != len(specs):
        raise ModelLoadError(f"model {name!r}: {role!r} of class {CLASS_NAME} has two tensors of the same name")
    return specs

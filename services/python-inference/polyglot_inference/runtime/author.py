"""Reads an author's class: what it declares, and how its methods are to be called.

A folder holds `model.py` with `class Model`:

- `inputs` and `outputs`, lists of `TensorSpec`;
- `predict(inputs)`, which answers once, or `stream(inputs)`, a generator that answers any number of times, or both;
- `load(path)`, where there is something to read: called once with the folder.

`predict` and `stream` get a `Request` where they have a parameter `request`, and `load` a function where it has a
parameter `progress`. Other modules of the folder are imported relatively: `from .tokens import split`. Whatever is
amiss is a `ModelLoadError` before the model is served.
"""

import contextlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Protocol

from polyglot_inference.errors import ModelLoadError
from polyglot_inference.runtime.model import Request
from polyglot_inference.tensors import TensorSpec

FILE_NAME: Final = "model.py"
CLASS_NAME: Final = "Model"


class Progress(Protocol):
    """Tells how far loading is, for logs, metrics and those who ask why the model is not ready."""

    def __call__(self, fraction: float, text: str = "") -> None:
        """Tell that this share of the work, 0 to 1, is done, and what comes now."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method of an author's instance, and whether it wants to know the request."""

    function: Callable[..., Any]
    wants_request: bool

    def __call__(self, inputs: object, request: Request) -> Any:
        """Call it as it is declared."""
        return self.function(inputs, request=request) if self.wants_request else self.function(inputs)


@dataclass(frozen=True, slots=True)
class Authored:
    """An instance of an author's class, loaded. `streams_async` tells a stream that is an async generator."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    predict: Method | None
    stream: Method | None
    streams_async: bool

    @classmethod
    def load(cls, name: str, folder: Path, progress: Progress) -> "Authored":
        """Import `folder`/model.py, make a Model and call its `load`.

        Raises
        ------
        ModelLoadError
            The file or class is missing, its declarations or methods are wrong, or its code raises.
        """
        with _importing_anew(_package(name)):
            return cls._load(name, folder, progress)

    @classmethod
    def _load(cls, name: str, folder: Path, progress: Progress) -> "Authored":
        model_class = _model_class(name, folder)
        inputs = _specs(name, "inputs", getattr(model_class, "inputs", None))
        outputs = _specs(name, "outputs", getattr(model_class, "outputs", None))
        kinds = _check_methods(name, model_class)
        try:
            instance = model_class()
        except Exception as error:
            raise ModelLoadError(
                f"model {name!r}: making a {CLASS_NAME}() raised {type(error).__name__}: {error}"
            ) from error
        predict, stream = _method(name, instance, "predict"), _method(name, instance, "stream")
        _load(name, instance, folder, progress)
        return cls(inputs, outputs, predict, stream, kinds)


def _model_class(name: str, folder: Path) -> type[Any]:
    path = folder / FILE_NAME
    if not path.is_file():
        raise ModelLoadError(
            f"model {name!r}: {path} does not exist; a model of format Python is a folder with a file {FILE_NAME}"
        )
    try:
        module = _import(_package(name), path)
    except Exception as error:
        raise ModelLoadError(f"model {name!r}: importing {path} raised {type(error).__name__}: {error}") from error
    model_class = getattr(module, CLASS_NAME, None)
    if not isinstance(model_class, type):
        raise ModelLoadError(f"model {name!r}: {path} defines no class {CLASS_NAME}")
    return model_class


def _package(name: str) -> str:
    """The package of a model's modules. Without dots: `a.b` would be a package within that of `a`."""
    return f"polyglot_models_{name.replace('.', ':')}"


@contextlib.contextmanager
def _importing_anew(package: str) -> Iterator[None]:
    """Import modules from their files, also those that a load before imported; these come back when the block fails."""
    before = _forget(package)
    try:
        yield
    except BaseException:
        _forget(package)
        sys.modules.update(before)
        raise


def _forget(package: str) -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name == package or name.startswith(f"{package}.")]
    return {name: sys.modules.pop(name) for name in names}


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


def _check_methods(name: str, model_class: type[Any]) -> bool:
    """Refuse methods of the wrong kind; whether `stream` is an async generator."""
    predict, stream, load = (getattr(model_class, method, None) for method in ("predict", "stream", "load"))
    if not callable(predict) and not callable(stream):
        raise ModelLoadError(
            f"model {name!r}: class {CLASS_NAME} in {FILE_NAME} has no method 'predict' and no 'stream'; it needs"
            " predict(self, inputs), which returns an answer, or stream(self, inputs), which yields any number of them"
        )
    for method, function in (("predict", predict), ("load", load)):
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ModelLoadError(
                f"model {name!r}: {CLASS_NAME}.{method} has a `yield`; a model that answers any number of times"
                " yields the answers in a method `stream`"
            )
        if inspect.iscoroutinefunction(function):
            raise ModelLoadError(
                f"model {name!r}: {CLASS_NAME}.{method} is `async def`; it is called on a thread of the model's own:"
                " make it a plain `def`"
            )
    streams_async = inspect.isasyncgenfunction(stream)
    if stream is not None and not streams_async and not inspect.isgeneratorfunction(stream):
        raise ModelLoadError(
            f"model {name!r}: {CLASS_NAME}.stream must be a generator: an `async def` or a `def` that yields each"
            " answer as a dict of arrays"
        )
    return streams_async


def _method(name: str, instance: Any, method: str) -> Method | None:
    function = getattr(instance, method, None)
    if function is None:
        return None
    return Method(function, wants_request=_wants(name, function, method, "inputs", "request"))


def _load(name: str, instance: Any, folder: Path, progress: Progress) -> None:
    load = getattr(instance, "load", None)
    if load is None:
        return
    keywords = {"progress": progress} if _wants(name, load, "load", "path", "progress") else {}
    try:
        load(folder, **keywords)
    except Exception as error:
        raise ModelLoadError(f"model {name!r}: {CLASS_NAME}.load raised {type(error).__name__}: {error}") from error


def _wants(name: str, function: Callable[..., Any], method: str, argument: str, extra: str) -> bool:
    """Whether a method has the parameter that it may have beside its one argument."""
    signature = inspect.signature(function)
    wanted = extra in signature.parameters
    try:
        signature.bind(None, **({extra: None} if wanted else {}))
    except TypeError as error:
        raise ModelLoadError(
            f"model {name!r}: {CLASS_NAME}.{method}{signature} cannot be called ({error}); declare it as"
            f" {method}(self, {argument}) or {method}(self, {argument}, {extra})"
        ) from error
    return wanted

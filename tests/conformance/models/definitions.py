"""What the models of the conformance suite take, give and do: the one source for every server that is measured.

Copied into each model's folder beside the server's own adapter; needs numpy alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, Any]

NUMERIC = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
LATE_SECONDS = 3.0
EXECUTIONS = "executions.log"


@dataclass(frozen=True)
class Tensor:
    """A tensor's declaration; -1 is a dimension of any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Definition:
    """A model: `predict` answers once, `stream` any number of times; `load` is called before either."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    predict: Callable[[Arrays, Path], Arrays] | None = None
    stream: Callable[[Arrays], Iterator[Arrays]] | None = None
    load: Callable[[], None] = lambda: None


def _identity(inputs: Arrays, _folder: Path) -> Arrays:
    return {"y": inputs["x"]}


def _arithmetic(inputs: Arrays, _folder: Path) -> Arrays:
    return {"sum": inputs["a"] + inputs["b"], "difference": inputs["a"] - inputs["b"]}


def _text(inputs: Arrays, _folder: Path) -> Arrays:
    """Upper case; the word `fail` is an error."""
    text = inputs["text_input"][0].decode()
    if text == "fail":
        raise ValueError("told to fail")
    return {"text_output": np.array([text.upper().encode()], dtype=np.object_)}


def _words(inputs: Arrays) -> Iterator[Arrays]:
    """One answer for each word; the word `fail` is an error."""
    for word in inputs["text_input"][0].decode().split():
        if word == "fail":
            raise ValueError("told to fail")
        yield {"text_output": np.array([word.encode()], dtype=np.object_)}


def _slow(inputs: Arrays, folder: Path) -> Arrays:
    """Note the call's name beside the model, then take as long as told."""
    with (folder / EXECUTIONS).open("a") as log:
        log.write(inputs["name"][0].decode() + "\n")
    time.sleep(float(inputs["seconds"][0]))
    return {"seconds": inputs["seconds"]}


def _identity_of(datatype: str, shape: tuple[int, ...]) -> Definition:
    return Definition((Tensor("x", datatype, shape),), (Tensor("y", datatype, shape),), _identity)


_TEXT_IN, _TEXT_OUT = (Tensor("text_input", "BYTES", (1,)),), (Tensor("text_output", "BYTES", (1,)),)
_SECONDS = Tensor("seconds", "FP32", (1,))

DEFINITIONS: Mapping[str, Definition] = {
    **{f"identity-{datatype.lower()}": _identity_of(datatype, (-1, -1)) for datatype in (*NUMERIC, "BF16")},
    "identity-bytes": _identity_of("BYTES", (-1,)),
    "arithmetic": Definition(
        (Tensor("a", "INT32", (-1, 4)), Tensor("b", "INT32", (-1, 4))),
        (Tensor("sum", "INT32", (-1, 4)), Tensor("difference", "INT32", (-1, 4))),
        _arithmetic,
    ),
    "text": Definition(_TEXT_IN, _TEXT_OUT, _text),
    "words": Definition(_TEXT_IN, _TEXT_OUT, stream=_words),
    "slow": Definition((_SECONDS, Tensor("name", "BYTES", (1,))), (_SECONDS,), _slow),
    "late": Definition(
        (Tensor("x", "FP32", (-1, -1)),),
        (Tensor("y", "FP32", (-1, -1)),),
        _identity,
        load=lambda: time.sleep(LATE_SECONDS),
    ),
}
LOADED_ON_DEMAND = ("late",)

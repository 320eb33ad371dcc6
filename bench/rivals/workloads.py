"""What is asked: each model with one request and the answer that every server must give to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from examples.orientation.fetch import model_file

Arrays = Mapping[str, Any]
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Workload:
    """A model, one request of one row, and the right answer. `file` is None for the identity."""

    name: str
    title: str
    model: str
    file: Path | None
    inputs: Arrays
    answer: Arrays

    def answered(self, outputs: Arrays) -> None:
        """Fail unless these are outputs of the right answer, at least one.

        Raises
        ------
        WrongAnswerError
            A value differs by more than rounding does.
        """
        if not outputs:
            raise WrongAnswerError(f"{self.name}: no output in the answer")
        for name, array in outputs.items():
            expected = self.answer[name]
            # The shape is not compared: MLServer gives a vector as a column.
            if array.size != expected.size or not np.allclose(array.ravel(), expected.ravel(), rtol=1e-3, atol=1e-5):
                raise WrongAnswerError(f"{self.name}: output {name} is {array.tolist()}, not {expected.tolist()}")


class WrongAnswerError(Exception):
    """A server answers, but not what the model says."""


def identity(width: int, name: str = "identity") -> Workload:
    """Return the identity of one row of FP32."""
    row = (np.arange(width, dtype=np.float32) / 10 + 0.1)[None]
    size = f"{row.nbytes} B" if row.nbytes < 1024 else f"{row.nbytes // 1024} KiB"
    return Workload(name, f"identity, FP32[1,{width}], {size}", "identity", None, {"x": row}, {"y": row})


def digits() -> Workload:
    """Return the example's model: a small linear classifier."""
    rng = np.random.default_rng(7)
    pixels = rng.integers(0, 17, (1, 64)).astype(np.float32)
    return _onnx("digits", "digits, FP32[1,64], ONNX 3 KB", ROOT / "examples/digits/model.onnx", pixels)


def orientation() -> Workload:
    """Return an image classifier of 6.8 MB (PP-LCNet, Apache-2.0): which way up is this page?"""
    rng = np.random.default_rng(7)
    # Three decimals: what a client that cares for the size of its JSON sends.
    image = rng.normal(0, 1, (1, 3, 224, 224)).round(3).astype(np.float32)
    return _onnx("orientation", "orientation, FP32[1,3,224,224], ONNX 6.8 MB", model_file(), image)


#: By name, in the order of the page. Each costs something to make, so they are made when they are asked for.
WORKLOADS = {"identity": lambda: identity(16), "digits": digits, "orientation": orientation}
LARGE = "identity-64k"


def _onnx(name: str, title: str, file: Path, row: Any) -> Workload:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    inputs = {session.get_inputs()[0].name: row}
    outputs = [output.name for output in session.get_outputs()]
    return Workload(name, title, name, file, inputs, dict(zip(outputs, session.run(outputs, inputs), strict=True)))

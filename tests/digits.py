"""The digits example's held-out data, its requests, and ONNX Runtime's own answers to them: the oracle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "digits"


def held_out() -> NDArray[np.float32]:
    """Pixels of the held-out digits, shape [n, 64]."""
    rows = [digit["pixels"] for digit in json.loads((EXAMPLE / "held_out.json").read_text())]
    return np.array(rows, dtype=np.float32)


def oracle(pixels: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Labels [n] and probabilities [n, 10], computed by ONNX Runtime without any of our code."""
    session = ort.InferenceSession(EXAMPLE / "model.onnx", providers=["CPUExecutionProvider"])
    label, probabilities = session.run(["label", "probabilities"], {"x": pixels})
    return np.asarray(label), np.asarray(probabilities)


def rest_body(pixels: NDArray[np.float32]) -> dict[str, Any]:
    """The OIP REST request for a batch of digits."""
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": list(pixels.shape), "data": pixels.ravel().tolist()}]}


def rest_answer(reply: dict[str, Any]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Labels and probabilities of an OIP REST reply."""
    outputs = {output["name"]: output for output in reply["outputs"]}
    label, probabilities = outputs["label"], outputs["probabilities"]
    return (
        np.array(label["data"], dtype=np.int64).reshape(label["shape"]),
        np.array(probabilities["data"], dtype=np.float32).reshape(probabilities["shape"]),
    )

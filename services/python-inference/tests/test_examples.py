"""The ONNX model of the repository's examples, as the server runs it; Python models are tested beside their code."""

import json
from pathlib import Path

import numpy as np

from polyglot_inference.runtime.onnx import OnnxModel
from polyglot_inference.tensors import TensorSpec

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def test_the_digits_model_reads_digits_it_has_never_seen() -> None:
    digits = json.loads((EXAMPLES / "digits" / "held_out.json").read_text())
    model = OnnxModel.load("digits", EXAMPLES / "digits", cpus=1)
    assert model.inputs == (TensorSpec("x", "FP32", (-1, 64)),)
    assert model.outputs == (TensorSpec("label", "INT64", (-1,)), TensorSpec("probabilities", "FP32", (-1, 10)))
    pixels = np.array([digit["pixels"] for digit in digits], dtype=np.float32)
    answer = model.predict({"x": pixels}, ["label", "probabilities"])
    correct = answer["label"] == [digit["label"] for digit in digits]
    assert len(correct) == 40
    assert correct.sum() >= 38
    np.testing.assert_array_equal(answer["probabilities"].argmax(axis=1), answer["label"])
    np.testing.assert_allclose(answer["probabilities"].sum(axis=1), 1, rtol=1e-5)

"""Users' classes, right and wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from polyglot_inference.errors import InvalidTensorError, ModelFailedError, ModelLoadError
from polyglot_inference.runtime.python import PythonModel
from polyglot_inference.tensors import TensorSpec

if TYPE_CHECKING:
    from tests.conftest import WritePython

DOUBLE = """
    class Model:
        inputs = [{"name": "x", "datatype": "FP32", "shape": [-1]}]
        outputs = [{"name": "y", "datatype": "FP32", "shape": [-1]}]

        def load(self, path):
            self.factor = float((path / "factor.txt").read_text())

        def predict(self, inputs):
            return {"y": inputs["x"] * self.factor}
"""
X = {"x": np.array([1, 2], dtype=np.float32)}


def test_a_class_is_loaded_with_its_folder_and_predicts(python_model: WritePython) -> None:
    settings = python_model("double", DOUBLE)
    (settings.path / "factor.txt").write_text("2")
    model = PythonModel.load("double", settings.path)
    assert model.inputs == (TensorSpec("x", "FP32", (-1,)),)
    result = model.predict(X, ["y"])["y"]
    assert result.dtype == np.float32
    assert result.tolist() == [2, 4]


def test_two_models_may_have_modules_of_the_same_name(python_model: WritePython) -> None:
    source = """
        from polyglot_inference import TensorSpec
        from .answer import ANSWER

        class Model:
            inputs = []
            outputs = [TensorSpec("y", "INT64", [1])]

            def load(self, path):
                pass

            def predict(self, inputs):
                import numpy
                return {"y": numpy.array([ANSWER])}
    """
    models = []
    for answer in (41, 42):
        settings = python_model(f"answer{answer}", source)
        (settings.path / "answer.py").write_text(f"ANSWER = {answer}")
        models.append(PythonModel.load(settings.name, settings.path))
    assert [model.predict({}, ["y"])["y"].tolist() for model in models] == [[41], [42]]


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("import nothing_of_that_name", "importing .* raised ModuleNotFoundError"),
        ("class Network: pass", "defines no class Model"),
        ("Model = 3", "defines no class Model"),
        ("class Model: outputs = []", "must declare 'inputs' as a list of TensorSpec"),
        ("class Model: inputs = [3]; outputs = []", "'inputs' of class Model is wrong"),
        (
            "class Model: inputs = [dict(name='x', datatype='FLOAT', shape=[1])]; outputs = []",
            "'inputs' of class Model is wrong: tensor 'x': datatype 'FLOAT' is none of BOOL",
        ),
        (
            "class Model: inputs = []; outputs = 2 * [dict(name='x', datatype='FP32', shape=[1])]",
            "'outputs' of class Model has two tensors of the same name",
        ),
        ("class Model: inputs = []; outputs = []; load = print", "has no method 'predict'"),
        (
            "class Model:\n  inputs = outputs = []\n  predict = print\n  def load(self, _): raise OSError('lost')",
            r"Model\.load raised OSError: lost",
        ),
    ],
)
def test_a_wrong_class_is_refused_with_the_reason(python_model: WritePython, source: str, complaint: str) -> None:
    settings = python_model("wrong", source)
    with pytest.raises(ModelLoadError, match=f"model 'wrong': .*{complaint}"):
        PythonModel.load("wrong", settings.path)


def test_loading_an_empty_folder_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"model\.py does not exist; a model of format Python is a folder"):
        PythonModel.load("none", tmp_path)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ("1 / 0", "model 'answering' raised ZeroDivisionError: division by zero"),
        ("[1]", "answered with a list; an answer is a dict of arrays"),
        ("{}", "returned output 'y' as NoneType, not as a numpy array"),
        ("{'y': [1.0]}", "returned output 'y' as list, not as a numpy array"),
        ("{'y': numpy.zeros(1)}", r"with dtype float64, but it is declared FP32 \(float32\)"),
        ("{'y': numpy.zeros((1, 1), 'f4')}", r"with shape \[1, 1\], but it is declared \[-1\]"),
        ("{'y': numpy.zeros(1, 'f4'), 't': numpy.array(['a'], object)}", "elements that are not bytes"),
    ],
)
def test_a_wrong_answer_is_refused_with_the_reason(python_model: WritePython, answer: str, complaint: str) -> None:
    settings = python_model(
        "answering",
        f"""
        import numpy

        class Model:
            inputs = []
            outputs = [
                dict(name="y", datatype="FP32", shape=[-1]),
                dict(name="t", datatype="BYTES", shape=[-1]),
            ]

            def load(self, path):
                pass

            def predict(self, inputs):
                return {answer}
        """,
    )
    with pytest.raises(ModelFailedError, match=complaint):
        PythonModel.load("answering", settings.path).predict({}, ["y", "t"])


def test_a_model_may_choose_the_callers_error(python_model: WritePython) -> None:
    settings = python_model(
        "strict",
        """
        from polyglot_inference.errors import InvalidTensorError

        class Model:
            inputs = outputs = []
            load = print

            def predict(self, inputs):
                raise InvalidTensorError("input 'x' is too blue")
        """,
    )
    with pytest.raises(InvalidTensorError, match="too blue"):
        PythonModel.load("strict", settings.path).predict({}, [])

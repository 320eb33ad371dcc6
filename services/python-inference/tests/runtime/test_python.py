"""What an author's class answers, right and wrong; what it must look like is tested in test_author.py."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import numpy as np
import pytest

from polyglot_inference.errors import InvalidTensorError, ModelFailedError, UnsupportedError
from polyglot_inference.runtime.model import NO_REQUEST, Request
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


STREAMING = """
    import numpy

    class Model:
        inputs = []
        outputs = [dict(name="y", datatype="INT64", shape=[1])]

        {async_}def stream(self, inputs):
            yield {{"y": numpy.array([1])}}
            yield {answer}
"""


async def answers(model: PythonModel) -> list[list[int]]:
    """Every answer of a model that streams, whichever way it does."""
    assert model.stream is not None
    steps = model.stream({}, ["y"], NO_REQUEST)
    if isinstance(steps, AsyncGenerator):
        return [step["y"].tolist() async for step in steps]
    return [step["y"].tolist() for step in steps]


@pytest.mark.parametrize("async_", ["async ", ""])
async def test_each_answer_of_a_stream_is_held_to_the_declared_outputs(python_model: WritePython, async_: str) -> None:
    settings = python_model("right", STREAMING.format(async_=async_, answer='{"y": numpy.array([2])}'))
    assert await answers(PythonModel.load("right", settings.path)) == [[1], [2]]
    for number, (answer, complaint) in enumerate(
        {
            "1 / 0": "raised ZeroDivisionError",
            "[1]": "answered with a list; an answer is a dict of arrays",
            '{"y": numpy.array([2.0])}': "dtype float64, but it is declared INT64",
        }.items()
    ):
        settings = python_model(f"wrong{number}", STREAMING.format(async_=async_, answer=answer))
        with pytest.raises(ModelFailedError, match=complaint):
            await answers(PythonModel.load(settings.name, settings.path))


def test_a_class_that_only_streams_has_no_single_answer(python_model: WritePython) -> None:
    settings = python_model("only", STREAMING.format(async_="", answer="{}"))
    with pytest.raises(UnsupportedError, match=r"streams its answers .* call ModelStreamInfer"):
        PythonModel.load("only", settings.path).predict({}, ["y"])


def test_a_method_that_asks_for_the_request_gets_it(python_model: WritePython) -> None:
    settings = python_model(
        "asking",
        """
        import numpy

        class Model:
            inputs = []
            outputs = [dict(name="y", datatype="BYTES", shape=[1])]

            def predict(self, inputs, request):
                return {"y": numpy.array([f"{request.id} {request.parameters['k']}".encode()], object)}
        """,
    )
    model = PythonModel.load("asking", settings.path)
    assert model.wants_request
    assert model.predict({}, ["y"], Request("seven", {"k": 1.5}))["y"].tolist() == [b"seven 1.5"]

"""The fixture `model`: the server's checks without a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from polyglot_inference import Request
from polyglot_inference.errors import InferenceError, InvalidTensorError, ModelFailedError, UnsupportedError

if TYPE_CHECKING:
    from polyglot_inference.settings import ModelSettings
    from polyglot_inference.testing import LoadModel
    from tests.conftest import WritePython

SCALE = """
    import numpy as np
    from polyglot_inference import TensorSpec

    closed = []

    class Model:
        inputs = [TensorSpec("x", "FP32", [-1, 2]), TensorSpec("name", "BYTES", [1])]
        outputs = [TensorSpec("y", "FP32", [-1, 2]), TensorSpec("label", "BYTES", [1])]

        def predict(self, inputs, request):
            factor = request.parameters.get("factor", 2)
            return {"y": inputs["x"] * np.float32(factor), "label": inputs["name"]}

        {async_}def stream(self, inputs):
            try:
                for factor in range(3):
                    yield {{"y": inputs["x"] * np.float32(factor), "label": inputs["name"]}}
            finally:
                closed.append(True)
"""
INPUTS = {"x": [[1, 2]], "name": ["größer"]}


@pytest.fixture(params=["async ", ""], ids=["async", "plain"])
def scale(request: pytest.FixtureRequest, python_model: WritePython) -> ModelSettings:
    return python_model("scale", SCALE.replace("{async_}", request.param).replace("{{", "{").replace("}}", "}"))


def test_lists_and_texts_become_arrays_of_the_declared_datatype(model: LoadModel, scale: ModelSettings) -> None:
    answer = model(scale.path).predict(**INPUTS)
    assert answer["y"].dtype == np.float32
    assert answer["y"].tolist() == [[2, 4]]
    assert answer["label"].tolist() == ["größer".encode()]


def test_a_request_is_given_to_a_model_that_asks_for_it(model: LoadModel, scale: ModelSettings) -> None:
    assert model(str(scale.path)).predict(Request(parameters={"factor": 5}), **INPUTS)["y"].tolist() == [[5, 10]]


def test_the_answers_of_a_stream_come_when_they_are_asked_for(model: LoadModel, scale: ModelSettings) -> None:
    scaled = model(scale.path)
    assert [answer["y"].tolist() for answer in scaled.stream(**INPUTS)] == [[[0, 0]], [[1, 2]], [[2, 4]]]
    left = scaled.stream(**INPUTS)
    next(left)
    left.close()  # type: ignore[attr-defined]
    import sys

    assert sys.modules["polyglot_models_scale.model"].closed == [True, True]


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        ({"x": [[1, 2]]}, "input 'name' is missing"),
        ({**INPUTS, "z": [1]}, "input 'z' is unknown; the model has x, name"),
        ({**INPUTS, "x": [[1, 2, 3]]}, r"input 'x' has shape \[1, 3\], the model expects \[-1, 2\]"),
        ({**INPUTS, "x": np.ones((1, 2))}, "input 'x' has datatype 'FP64', the model expects 'FP32'"),
        ({**INPUTS, "name": [1]}, "input 'name' has datatype 'INT64', the model expects 'BYTES'"),
        ({**INPUTS, "name": np.array([1])}, "input 'name' has datatype 'INT64', the model expects 'BYTES'"),
    ],
)
def test_inputs_that_the_server_would_refuse_are_refused(
    model: LoadModel, scale: ModelSettings, inputs: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InvalidTensorError, match=complaint):
        model(scale.path).predict(**inputs)


def test_an_answer_that_the_server_would_refuse_is_refused(model: LoadModel, python_model: WritePython) -> None:
    settings = python_model(
        "wrong",
        """
        import numpy as np
        from polyglot_inference import TensorSpec

        class Model:
            inputs = []
            outputs = [TensorSpec("y", "FP32", [1])]

            def predict(self, inputs):
                return {"y": np.zeros(1)}
        """,
    )
    with pytest.raises(ModelFailedError, match="dtype float64, but it is declared FP32"):
        model(settings.path).predict()
    with pytest.raises(UnsupportedError, match="has no method `stream`"):
        next(model(settings.path).stream())


def test_an_onnx_model_is_tested_in_the_same_way(model: LoadModel, identity: ModelSettings) -> None:
    assert model(identity.path).predict(x=np.ones((2, 4), np.float32))["y"].tolist() == [[1] * 4] * 2
    with pytest.raises(InferenceError, match="shape"):
        model(identity.path).predict(x=[[1.0]])


def test_pytest_finds_the_fixture_by_itself(tmp_path: Path, scale: ModelSettings) -> None:
    import subprocess
    import sys

    (tmp_path / "test_it.py").write_text(
        f"def test_it(model):\n    assert len(list(model({str(scale.path)!r}).stream(**{INPUTS!r}))) == 3\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout

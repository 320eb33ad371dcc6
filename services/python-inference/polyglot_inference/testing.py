"""The pytest fixture `model`: tests a model's folder without a server, held to the rules that the server holds it to.

    def test_it(model):
        answer = model("path/to/folder").predict(x=[[1.0, 2.0]])
        assert answer["y"].tolist() == [[2.0, 4.0]]

pytest finds it by itself where this package is installed. Inputs go through the request and the checks that a call goes
through: what the server would refuse raises the error that its caller would get.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from polyglot_inference.errors import UnsupportedError
from polyglot_inference.protocol import codec
from polyglot_inference.protocol.form import Form
from polyglot_inference.protocol.inference import Inference
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.runtime.model import Model, Request
from polyglot_inference.runtime.python import PythonModel
from polyglot_inference.tensors import BYTES, NUMPY_DTYPES, Array, TensorSpec

_VERSION: Final = "1"


LoadModel = Callable[[str | Path], "ModelUnderTest"]


@pytest.fixture
def model() -> LoadModel:
    """Loads the model in a folder."""
    return load


def load(folder: str | Path) -> "ModelUnderTest":
    """Load the model in a folder with a model.py or a model.onnx.

    Raises
    ------
    ModelLoadError
        The server would not load it either; the message says why.
    """
    path = Path(folder).resolve()
    # The name that a service usually gives it; modules of a package may not have every character of it.
    name = path.name.replace(".", "-")
    if (path / "model.onnx").is_file():
        # pytest imports this module in every run; ONNX Runtime takes a moment and is for those who have such a model.
        from polyglot_inference.runtime.onnx import OnnxModel  # noqa: PLC0415

        return ModelUnderTest(name, OnnxModel.load(name, path, cpus=1))
    return ModelUnderTest(name, PythonModel.load(name, path))


class ModelUnderTest:
    """A loaded model."""

    def __init__(self, name: str, loaded: Model) -> None:
        self.inputs = tuple(loaded.inputs)
        self.outputs = tuple(loaded.outputs)
        self._name = name
        self._model = loaded

    def predict(self, request: Request | None = None, /, **inputs: object) -> dict[str, Array]:
        """Call the model once.

        Inputs are arrays, or lists of numbers, texts or bytes, which become arrays of the declared datatype. A model
        that asks for the `Request` gets the one that is given first.

        Raises
        ------
        InvalidTensorError
            The inputs are not as the model declares them.
        ModelFailedError
            The model raised, or its answer is not as it declares.
        """
        inference, described = self._received(request, inputs)
        results = self._model.predict(inference.tensors(), inference.form.output_names, described)
        return _read(inference.response(results, _VERSION))

    def stream(self, request: Request | None = None, /, **inputs: object) -> Iterator[dict[str, Array]]:
        """Yield the model's answers, each when it is asked for; inputs and errors are those of `predict`.

        Raises
        ------
        UnsupportedError
            The model has no method `stream`.
        """
        if self._model.stream is None:
            raise UnsupportedError(f"model {self._name!r} has no method `stream`; it answers once: use predict")
        inference, described = self._received(request, inputs)
        steps = self._model.stream(inference.tensors(), inference.form.output_names, described)
        with contextlib.closing(_pulled(steps) if isinstance(steps, AsyncGenerator) else steps) as results:
            for result in results:
                yield _read(inference.response(result, _VERSION))

    def _received(self, request: Request | None, inputs: Mapping[str, object]) -> tuple[Inference, Request]:
        described = request or Request()
        message = pb.ModelInferRequest(model_name=self._name, id=described.id)
        specs = {spec.name: spec for spec in self.inputs}
        raws: list[bytes] = []
        for name, value in inputs.items():
            tensor, datatype = _tensor(specs.get(name), value)
            message.inputs.add(name=name, datatype=datatype, shape=tensor.shape)
            raws.append(codec.encode_raw(tensor, datatype))
        return Inference(message, raws, Form.of(message, raws, self._model)), described


def _tensor(spec: TensorSpec | None, value: object) -> tuple[Array, str]:
    """An input and its datatype: an array's own, which may be a wrong one, or the declared one for plain lists."""
    given = value if isinstance(value, np.ndarray) else np.array(value, dtype=spec.dtype if spec else None)
    if given.dtype == np.object_ and not all(isinstance(element, str | bytes) for element in given.flat):
        given = np.array(value)  # numbers where texts are declared: sent as what they are, for the checks to refuse
    if given.dtype.kind in "OSU":
        texts = np.empty(given.shape, dtype=np.object_)
        for place, element in np.ndenumerate(given):
            texts[place] = element.encode() if isinstance(element, str) else bytes(element)
        return texts, BYTES
    datatypes = {dtype: datatype for datatype, dtype in NUMPY_DTYPES.items()}
    little_endian = given.astype(given.dtype.newbyteorder("<"), copy=False)
    return little_endian, datatypes.get(little_endian.dtype, str(given.dtype))


def _read(answer: bytes) -> dict[str, Array]:
    response = pb.ModelInferResponse.FromString(answer)
    return {
        output.name: codec.decode_raw(output.name, output.datatype, output.shape, raw)
        for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    }


def _pulled(steps: AsyncGenerator[Mapping[str, Array], None]) -> Generator[Mapping[str, Array], None, None]:
    """The steps of an async generator, each on a loop that runs for its length."""
    with asyncio.Runner() as runner:

        async def following() -> Mapping[str, Array] | None:
            return await anext(steps, None)

        try:
            while (step := runner.run(following())) is not None:
                yield step
        finally:
            runner.run(steps.aclose())

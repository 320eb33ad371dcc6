"""Models for KServe: `model.py FOLDER MODEL…`, and KServe's own options."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import numpy as np
from definitions import DEFINITIONS, Definition, Tensor
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.utils.utils import generate_uuid


class Defined(Model):  # type: ignore[misc,unused-ignore]
    """A definition's tensors and behaviour."""

    def __init__(self, name: str, folder: Path, definition: Definition) -> None:
        super().__init__(name)
        self._folder = folder
        self._definition = definition

    def load(self) -> bool:
        """Take as long as the definition does."""
        self._definition.load()
        self.ready = True
        return self.ready

    def get_input_types(self) -> list[dict[str, Any]]:
        """Declare the definition's inputs."""
        return [_metadata(tensor) for tensor in self._definition.inputs]

    def get_output_types(self) -> list[dict[str, Any]]:
        """Declare the definition's outputs."""
        return [_metadata(tensor) for tensor in self._definition.outputs]

    async def predict(self, payload: InferRequest, *_arguments: Any, **_keywords: Any) -> InferResponse:
        """Answer once, in a thread, so that other calls are taken meanwhile."""
        assert self._definition.predict is not None
        inputs = {tensor.name: _array(tensor) for tensor in payload.inputs}
        answer = await asyncio.to_thread(self._definition.predict, inputs, self._folder)
        outputs = []
        for tensor in self._definition.outputs:
            array = answer[tensor.name]
            output = InferOutput(tensor.name, list(array.shape), tensor.datatype)
            output.set_data_from_numpy(array)
            outputs.append(output)
        return InferResponse(
            payload.id or generate_uuid(),
            self.name,
            outputs,
            use_binary_outputs=payload.use_binary_outputs,
            requested_outputs=payload.request_outputs,
        )


def _array(tensor: Any) -> Any:
    array = tensor.as_numpy()
    if tensor.datatype != "BYTES":
        return array
    # Text where the request is JSON or in the binary extension, bytes where it is gRPC.
    words = [word.encode() if isinstance(word, str) else word for word in array.ravel()]
    return np.array(words, dtype=np.object_).reshape(array.shape)


def _metadata(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


if __name__ == "__main__":
    root, *names = (argument for argument in sys.argv[1:] if not argument.startswith("--"))
    models = [Defined(name, Path(root) / name, DEFINITIONS[name]) for name in names]
    for model in models:
        model.load()
    ModelServer().start(models)  # reads the options itself

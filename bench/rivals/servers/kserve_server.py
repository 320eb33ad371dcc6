"""The model for KServe's Python server; KServe reads its own options from the command line."""

from __future__ import annotations

from typing import Any

import served
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.utils.utils import generate_uuid


class Served(Model):  # type: ignore[misc,unused-ignore]
    """A custom model, as KServe's guide writes one."""

    def __init__(self) -> None:
        super().__init__(served.NAME)
        self._model = served.model()
        self._datatypes = {tensor.name: tensor.datatype for tensor in self._model.outputs}
        self.ready = True

    async def predict(self, payload: InferRequest, *_arguments: Any, **_keywords: Any) -> InferResponse:
        """Run the model on the loop, as the guide does; answer raw or binary where the request was."""
        answer = self._model({tensor.name: tensor.as_numpy() for tensor in payload.inputs})
        outputs = []
        for name, array in answer.items():
            output = InferOutput(name, list(array.shape), self._datatypes[name])
            output.set_data_from_numpy(array, binary_data=payload.from_grpc or bool(payload.use_binary_outputs))
            outputs.append(output)
        return InferResponse(
            payload.id or generate_uuid(), self.name, outputs, use_binary_outputs=payload.use_binary_outputs
        )


if __name__ == "__main__":
    ModelServer().start([Served()])

"""The folder's model, for Triton's Python backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb
from definitions import DEFINITIONS, Definition, Tensor

FOLDER = Path(__file__).parents[1]  # above the version's


class TritonPythonModel:
    """The definition's tensors and behaviour."""

    definition: Definition

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Declare the definition's tensors; a model that streams is decoupled."""
        definition = DEFINITIONS[config.as_dict()["name"]]
        for tensor in definition.inputs:
            config.add_input(_config(tensor))
        for tensor in definition.outputs:
            config.add_output(_config(tensor))
        if definition.stream:
            config.set_model_transaction_policy({"decoupled": True})
        config.set_max_batch_size(0)
        return config

    def initialize(self, args: dict[str, str]) -> None:
        """Take as long as the definition does."""
        self.definition = DEFINITIONS[args["model_name"]]
        self.definition.load()

    def execute(self, requests: list[Any]) -> list[Any] | None:
        """Answer each request once, or as often as the definition says."""
        if self.definition.stream is None:
            return [self._answer(request) for request in requests]
        for request in requests:
            self._stream(request)
        return None

    def _answer(self, request: Any) -> Any:
        if self.definition.inputs[0].datatype == "BF16":  # which numpy doesn't have
            return pb.InferenceResponse([pb.Tensor.from_dlpack("y", request.inputs()[0].to_dlpack())])
        assert self.definition.predict is not None
        try:
            answer = self.definition.predict(_arrays(request), FOLDER)
        except ValueError as error:
            return pb.InferenceResponse(error=pb.TritonError(str(error)))
        return pb.InferenceResponse([pb.Tensor(name, array) for name, array in answer.items()])

    def _stream(self, request: Any) -> None:
        assert self.definition.stream is not None
        sender = request.get_response_sender()
        try:
            for answer in self.definition.stream(_arrays(request)):
                sender.send(pb.InferenceResponse([pb.Tensor(name, array) for name, array in answer.items()]))
        except ValueError as error:
            sender.send(pb.InferenceResponse(error=pb.TritonError(str(error))))
        sender.send(flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def _arrays(request: Any) -> dict[str, Any]:
    return {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}


def _config(tensor: Tensor) -> dict[str, Any]:
    datatype = "STRING" if tensor.datatype == "BYTES" else tensor.datatype
    return {"name": tensor.name, "data_type": f"TYPE_{datatype}", "dims": list(tensor.shape)}

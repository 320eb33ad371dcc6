"""The model for Triton's Python backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import served
import triton_python_backend_utils as pb


class TritonPythonModel:
    """The model. Its config.pbtxt has only the number of instances, which can't be set here."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Declare tensors without their rows; Triton adds that dimension to models that it batches."""
        model = served.model()
        for tensor in model.inputs:
            config.add_input(_config(tensor))
        for tensor in model.outputs:
            config.add_output(_config(tensor))
        config.set_max_batch_size(served.BATCH if served.BATCH > 1 else 0)
        if served.BATCH > 1:
            config.set_dynamic_batching()
        return config

    def initialize(self, _args: dict[str, str]) -> None:
        """Load the model."""
        self._model = served.model()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Run the model once for all requests that Triton batched."""
        stacked = [_arrays(request) for request in requests]
        if len(stacked) == 1:
            return [_response(self._model(stacked[0]))]
        rows = [len(next(iter(arrays.values()))) for arrays in stacked]
        answer = self._model({name: np.concatenate([arrays[name] for arrays in stacked]) for name in stacked[0]})
        ends = np.cumsum(rows)[:-1]
        parts = {name: np.split(array, ends) for name, array in answer.items()}
        return [_response({name: parts[name][i] for name in parts}) for i in range(len(requests))]


def _arrays(request: Any) -> dict[str, Any]:
    return {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}


def _response(answer: dict[str, Any]) -> Any:
    # A vector of one value per row is a column: Triton asks for a dimension beside the rows.
    columns = {name: array[:, None] if array.ndim == 1 else array for name, array in answer.items()}
    return pb.InferenceResponse([pb.Tensor(name, array) for name, array in columns.items()])


def _config(tensor: served.Tensor) -> dict[str, Any]:
    row = tensor.shape[1:] or (1,)
    dims = row if served.BATCH > 1 else (-1, *row)
    return {"name": tensor.name, "data_type": f"TYPE_{tensor.datatype}", "dims": list(dims)}

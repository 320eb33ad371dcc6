"""The model for MLServer."""

from __future__ import annotations

import served
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Model(MLModel):  # type: ignore[misc,unused-ignore]
    """A custom runtime, as MLServer's guide writes one."""

    async def load(self) -> bool:
        """Load the model."""
        self._model = served.model()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Run the model on the loop, as MLServer's own runtimes do."""
        arrays = {tensor.name: NumpyCodec.decode_input(tensor) for tensor in payload.inputs}
        answer = self._model(arrays)
        outputs = [NumpyCodec.encode_output(name, array) for name, array in answer.items()]
        return InferenceResponse(model_name=self.name, outputs=outputs)

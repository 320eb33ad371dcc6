"""The folder's model, for MLServer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
from definitions import DEFINITIONS, Arrays, Tensor
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse, MetadataTensor, RequestInput, ResponseOutput
from mlserver.utils import get_model_uri


class Model(MLModel):  # type: ignore[misc,unused-ignore]
    """The definition's tensors and behaviour."""

    async def load(self) -> bool:
        """Declare the definition's tensors."""
        self.definition = DEFINITIONS[self.name]
        # Not this file's: MLServer imports the module `model` once, from the first folder, for all of them.
        self.folder = Path(await get_model_uri(self.settings))
        self.inputs = [_metadata(tensor) for tensor in self.definition.inputs]
        self.outputs = [_metadata(tensor) for tensor in self.definition.outputs]
        self.definition.load()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer once, in a thread, so that other calls are taken meanwhile."""
        assert self.definition.predict is not None
        answer = await asyncio.to_thread(self.definition.predict, _arrays(payload), self.folder)
        return self._response(payload, answer)

    async def predict_stream(self, payloads: AsyncIterator[InferenceRequest]) -> AsyncIterator[InferenceResponse]:
        """Answer each request as often as the definition says."""
        async for payload in payloads:
            if self.definition.stream is None:
                yield await self.predict(payload)
            else:
                for answer in self.definition.stream(_arrays(payload)):
                    yield self._response(payload, answer)

    def _response(self, payload: InferenceRequest, answer: Arrays) -> InferenceResponse:
        wanted = {output.name for output in payload.outputs or self.definition.outputs}
        outputs = [_encoded(tensor, answer) for tensor in self.definition.outputs if tensor.name in wanted]
        return InferenceResponse(id=payload.id, model_name=self.name, model_version=self.version, outputs=outputs)


def _metadata(tensor: Tensor) -> MetadataTensor:
    return MetadataTensor(name=tensor.name, datatype=tensor.datatype, shape=list(tensor.shape))


def _arrays(payload: InferenceRequest) -> Arrays:
    return {tensor.name: _decoded(tensor) for tensor in payload.inputs}


def _decoded(tensor: RequestInput) -> Any:
    if tensor.datatype != "BYTES":
        return NumpyCodec.decode_input(tensor)
    return np.array([word.encode() for word in StringCodec.decode_input(tensor)], dtype=np.object_)


def _encoded(tensor: Tensor, answer: Arrays) -> ResponseOutput:
    if tensor.datatype != "BYTES":
        return NumpyCodec.encode_output(tensor.name, answer[tensor.name])
    return StringCodec.encode_output(tensor.name, [word.decode() for word in answer[tensor.name]])

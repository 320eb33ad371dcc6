"""One ModelInfer call whose form was checked: the tensors read, the answer written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from polyglot_inference.errors import ModelFailedError
from polyglot_inference.protocol import codec
from polyglot_inference.protocol.form import Form
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.runtime.model import Request
from polyglot_inference.tensors import BYTES, Array, TensorSpec

# Triton's parameter of a request in a stream: tell the end of a decoupled model's answers by one without outputs.
_ENABLE_END = "triton_enable_empty_final_response"


@dataclass(slots=True, eq=False)
class Inference:
    """A request and its form; the data of its tensors is unread."""

    request: pb.ModelInferRequest
    form: Form

    @property
    def timeout_seconds(self) -> float | None:
        """How long the request may wait: Triton's parameter `timeout`, in microseconds on the wire; None without it."""
        # Reading an absent key of a protobuf map would create it.
        parameters = self.request.parameters
        microseconds = parameters["timeout"].int64_param if "timeout" in parameters else 0
        return microseconds / 1e6 if microseconds > 0 else None

    def described(self) -> Request:
        """What a model that asks may know of the request."""
        parameters = {
            name: getattr(parameter, parameter.WhichOneof("parameter_choice") or "string_param")
            for name, parameter in self.request.parameters.items()
        }
        return Request(self.request.id, parameters)

    @property
    def wants_end(self) -> bool:
        """Whether the caller asks to be told the end of a decoupled model's answers."""
        parameters = self.request.parameters
        return _ENABLE_END in parameters and parameters[_ENABLE_END].bool_param

    def end(self, version: str) -> pb.ModelInferResponse:
        """The answer without outputs that tells the end of all answers."""
        return pb.ModelInferResponse(model_name=self.request.model_name, model_version=version, id=self.request.id)

    def tensors(self) -> dict[str, Array]:
        """Read the input tensors.

        Raises
        ------
        InvalidTensorError
            A tensor's data does not fit its shape and datatype.
        """
        raw_inputs = self.form.raw_inputs
        if raw_inputs:
            entries = zip(raw_inputs, self.request.raw_input_contents[:], strict=True)
            return {tensor.name: tensor.read(raw) for tensor, raw in entries}
        if self.form.shared_inputs:
            return self._partly_shared_tensors()
        return {
            tensor.name: codec.decode_contents(tensor.name, tensor.datatype, tuple(tensor.shape), tensor.contents)
            for tensor in self.request.inputs
        }

    def _partly_shared_tensors(self) -> dict[str, Array]:
        """Read tensors of which some are in shared memory; the others are all typed, or raw in the inputs' order."""
        entries = iter(self.request.raw_input_contents)
        tensors: dict[str, Array] = {}
        for tensor in self.request.inputs:
            name, datatype = tensor.name, tensor.datatype
            shape = tuple(tensor.shape)
            shared = self.form.shared_inputs.get(name)
            if shared:
                tensors[name] = codec.decode_raw(name, datatype, shape, shared.read())
            elif self.request.raw_input_contents:
                tensors[name] = codec.decode_raw(name, datatype, shape, next(entries))
            else:
                tensors[name] = codec.decode_contents(name, datatype, shape, tensor.contents)
        return tensors

    def response(self, results: Mapping[str, Array], version: str) -> pb.ModelInferResponse:
        """Write the answer: raw to a raw request, typed to a typed one."""
        form = self.form
        tensors = [_as_declared(spec, results[spec.name]) for spec in form.outputs]
        if form.raw and not form.shared_outputs:
            return self._raw_response(tensors, version)
        response = self._without_data(tensors, version)
        response.id = self.request.id
        for spec, tensor, output in zip(form.outputs, tensors, response.outputs, strict=True):
            shared = form.shared_outputs.get(spec.name)
            if shared:
                shared.write(tensor, spec.datatype, output)
                if form.raw:  # there is an entry for every output, as Triton has it
                    response.raw_output_contents.append(b"")
            elif form.raw:
                response.raw_output_contents.append(codec.encode_raw(tensor, spec.datatype))
            else:
                output.contents.CopyFrom(codec.encode_contents(tensor, spec.datatype))
        return response

    def _raw_response(self, tensors: Sequence[Array], version: str) -> pb.ModelInferResponse:
        """Write a raw answer, whose outputs need not be written anew where they have the shapes of the last time."""
        form, request = self.form, self.request
        written_for = (request.model_name, version, [tensor.shape for tensor in tensors])
        last, outputs = form.last_outputs
        if last != written_for:
            outputs = self._without_data(tensors, version).SerializeToString()
            form.last_outputs = written_for, outputs
        response = pb.ModelInferResponse.FromString(outputs)
        response.id = request.id
        response.raw_output_contents.extend(
            [codec.encode_raw(tensor, spec.datatype) for spec, tensor in zip(form.outputs, tensors, strict=True)]
        )
        return response

    def _without_data(self, tensors: Sequence[Array], version: str) -> pb.ModelInferResponse:
        return pb.ModelInferResponse(
            model_name=self.request.model_name,
            model_version=version,
            outputs=[
                pb.ModelInferResponse.InferOutputTensor(name=spec.name, datatype=spec.datatype, shape=tensor.shape)
                for spec, tensor in zip(self.form.outputs, tensors, strict=True)
            ],
        )


def _as_declared(spec: TensorSpec, tensor: Array) -> Array:
    """The tensor in the byte order and memory layout of the wire; no copy in the usual case."""
    if tensor.dtype == spec.dtype and tensor.flags.c_contiguous:
        return tensor
    if tensor.dtype.kind != spec.dtype.kind or tensor.dtype.itemsize != spec.dtype.itemsize:
        raise ModelFailedError(f"output {spec.name!r} has dtype {tensor.dtype}, but the model declares {spec.datatype}")
    return tensor if spec.datatype == BYTES else np.ascontiguousarray(tensor, dtype=spec.dtype).reshape(tensor.shape)

"""One ModelInfer call whose form was checked: the tensors read, the answer written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from polyglot_inference.errors import ModelFailedError
from polyglot_inference.protocol import codec
from polyglot_inference.protocol.envelope import Envelope
from polyglot_inference.protocol.form import Form
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.runtime.model import Request
from polyglot_inference.tensors import BYTES, Array, TensorSpec


@dataclass(slots=True, eq=False)
class Inference:
    """A request, the raw data that was taken out of it, and its form; the data is unread."""

    request: pb.ModelInferRequest
    raws: Sequence[bytes]
    form: Form

    def described(self) -> Request:
        """What a model that asks may know of the request."""
        parameters = {
            name: getattr(parameter, parameter.WhichOneof("parameter_choice") or "string_param")
            for name, parameter in self.request.parameters.items()
        }
        return Request(self.request.id, parameters)

    def end(self, version: str) -> bytes:
        """The answer without outputs that tells the end of all answers."""
        return self._without_data([], [], version).SerializeToString()

    def tensors(self) -> dict[str, Array]:
        """Read the input tensors.

        Raises
        ------
        InvalidTensorError
            A tensor's data does not fit its shape and datatype.
        """
        raw_inputs = self.form.raw_inputs
        if raw_inputs:
            entries = zip(raw_inputs, self.raws, strict=True)
            return {tensor.name: tensor.read(raw) for tensor, raw in entries}
        if self.form.shared_inputs:
            return self._partly_shared_tensors()
        return {
            tensor.name: codec.decode_contents(tensor.name, tensor.datatype, tuple(tensor.shape), tensor.contents)
            for tensor in self.request.inputs
        }

    def _partly_shared_tensors(self) -> dict[str, Array]:
        """Read tensors of which some are in shared memory; the others are all typed, or raw in the inputs' order."""
        entries = iter(self.raws)
        tensors: dict[str, Array] = {}
        for tensor in self.request.inputs:
            name, datatype = tensor.name, tensor.datatype
            shape = tuple(tensor.shape)
            shared = self.form.shared_inputs.get(name)
            if shared:
                tensors[name] = codec.decode_raw(name, datatype, shape, shared.read())
            elif self.raws:
                tensors[name] = codec.decode_raw(name, datatype, shape, next(entries))
            else:
                tensors[name] = codec.decode_contents(name, datatype, shape, tensor.contents)
        return tensors

    def response(self, results: Mapping[str, Array], version: str) -> bytes:
        """Write the answer, a ModelInferResponse: raw to a raw request, typed to a typed one."""
        form = self.form
        tensors = [_as_declared(spec, results[spec.name]) for spec in form.outputs]
        if form.raw and not form.shared_outputs:
            raws = [codec.encode_raw(tensor, spec.datatype) for spec, tensor in zip(form.outputs, tensors, strict=True)]
            return self.envelope([tensor.shape for tensor in tensors], version).around(self.request.id, raws)
        response = self._without_data(form.outputs, [tensor.shape for tensor in tensors], version)
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
        return response.SerializeToString()

    def envelope(self, shapes: Sequence[tuple[int, ...]], version: str) -> Envelope:
        """The envelope of a raw answer; the last one serves again where outputs have the shapes of the last time."""
        form = self.form  # which has the model's name in it
        envelope = form.last_envelope
        written_for = (version, shapes)
        if envelope is None or envelope.written_for != written_for:
            response = self._without_data(form.outputs, shapes, version)
            response.ClearField("id")
            envelope = form.last_envelope = Envelope.of(response, written_for)
        return envelope

    def _without_data(
        self, outputs: Sequence[TensorSpec], shapes: Sequence[tuple[int, ...]], version: str
    ) -> pb.ModelInferResponse:
        return pb.ModelInferResponse(
            model_name=self.request.model_name,
            model_version=version,
            id=self.request.id,
            outputs=[
                pb.ModelInferResponse.InferOutputTensor(name=spec.name, datatype=spec.datatype, shape=shape)
                for spec, shape in zip(outputs, shapes, strict=True)
            ],
        )


def stacked(inferences: Sequence[Inference]) -> dict[str, Array] | None:
    """The tensors of requests of one signature, stacked; None where one of them has to be read by itself for that.

    They are raw, and their bytes need only be strung together: that takes a fraction of reading each.
    """
    raws = []
    for inference in inferences:
        form = inference.form
        if not form.raw_inputs or [len(raw) for raw in inference.raws] != form.raw_sizes:
            return None
        raws.append(inference.raws)
    rows = sum([inference.form.rows for inference in inferences])
    columns = zip(inferences[0].form.raw_inputs, zip(*raws, strict=True), strict=True)
    return {tensor.name: tensor.stack(column, rows) for tensor, column in columns}


def responses(inferences: Sequence[Inference], results: Mapping[str, Array], version: str) -> list[bytes]:
    """Write the answers to requests of one signature, each of which has its rows of the results, in turn."""
    answers: list[bytes] = []
    outputs = inferences[0].form.outputs  # of all of them
    whole = [_Whole(_as_declared(spec, results[spec.name])) for spec in outputs if spec.datatype != BYTES]
    first = 0
    written_for = envelope = None
    for inference in inferences:
        form = inference.form
        last = first + form.rows
        if len(whole) < len(outputs) or not form.raw or form.shared_outputs:
            own = {spec.name: results[spec.name][first:last] for spec in outputs}
            answers.append(inference.response(own, version))
        else:
            if envelope is None or form is not written_for:
                envelope = inference.envelope([(form.rows, *tensor.row_shape) for tensor in whole], version)
                written_for = form
            answers.append(envelope.around(inference.request.id, [tensor.rows(first, last) for tensor in whole]))
        first = last
    return answers


class _Whole:
    """A tensor whose rows are answers to several requests; its bytes are taken once for all of them."""

    __slots__ = ("_bytes", "_row_size", "row_shape")

    def __init__(self, tensor: Array) -> None:
        self.row_shape = tensor.shape[1:]
        self._bytes = tensor.tobytes()
        self._row_size = len(self._bytes) // max(1, tensor.shape[0])

    def rows(self, first: int, last: int) -> bytes:
        """The bytes of some rows."""
        return self._bytes[first * self._row_size : last * self._row_size]


def _as_declared(spec: TensorSpec, tensor: Array) -> Array:
    """The tensor in the byte order and memory layout of the wire; no copy in the usual case."""
    if tensor.dtype == spec.dtype and tensor.flags.c_contiguous:
        return tensor
    if tensor.dtype.kind != spec.dtype.kind or tensor.dtype.itemsize != spec.dtype.itemsize:
        raise ModelFailedError(f"output {spec.name!r} has dtype {tensor.dtype}, but the model declares {spec.datatype}")
    return tensor if spec.datatype == BYTES else np.ascontiguousarray(tensor, dtype=spec.dtype).reshape(tensor.shape)

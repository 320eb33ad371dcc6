"""One ModelInfer call: the request held against the model's metadata, the tensors read, the answer written.

The rules are Triton's and KServe's (kserve/protocol/grpc/servicer.py `validate_grpc_request`); what this server does
not support is refused, never ignored.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from polyglot_inference.errors import InvalidRequestError, InvalidTensorError, ModelFailedError, UnsupportedError
from polyglot_inference.protocol import codec
from polyglot_inference.protocol.memory import SharedTensor, shared_tensors
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.runtime.model import Model, Request
from polyglot_inference.runtime.shared_memory import SharedMemory
from polyglot_inference.tensors import BYTES, DYNAMIC, NUMPY_DTYPES, Array, TensorSpec

# Parameters that change what a call means. A server that ignored them would answer something else than was asked.
_UNSUPPORTED_REQUEST_PARAMETERS = frozenset({"sequence_id", "sequence_start", "sequence_end"})
_UNSUPPORTED_TENSOR_PARAMETERS = frozenset({"classification"})
# Triton's parameter of a request in a stream: tell the end of a decoupled model's answers by one without outputs.
_ENABLE_END = "triton_enable_empty_final_response"


@dataclass(slots=True, eq=False)
class Inference:
    """A request whose tensors are declared, of the right datatype and an admitted shape; their data is unread."""

    request: pb.ModelInferRequest
    shapes: Mapping[str, tuple[int, ...]]
    outputs: tuple[TensorSpec, ...]
    raw: bool
    rows: int
    shared_inputs: Mapping[str, SharedTensor] = field(default_factory=dict)
    shared_outputs: Mapping[str, SharedTensor] = field(default_factory=dict)

    @classmethod
    def of(cls, request: pb.ModelInferRequest, model: Model, memory: SharedMemory | None = None) -> Self:
        """Hold a request against the model it names. Cheap, whatever the size of the tensors.

        Raises
        ------
        InvalidRequestError, InvalidTensorError
            The request contradicts the protocol or the model's metadata.
        UnsupportedError
            It asks for classification or sequences, or for shared memory where that is off.
        """
        plain = cls._of_plain(request, model)
        if plain is not None:
            return plain
        _refuse_parameters("request", request.parameters, _UNSUPPORTED_REQUEST_PARAMETERS)
        _check_names("input", [tensor.name for tensor in request.inputs], model.inputs)
        _check_inputs(request.inputs, model.inputs)
        outputs = _requested_outputs(request.outputs, model.outputs)
        shared_inputs = shared_tensors("input", request.inputs, memory)
        raw = _is_raw(request, shared_inputs)
        # FP16 has no typed form, and one response is raw or typed as a whole.
        raw_answer = raw or any(spec.datatype not in codec.CONTENTS_FIELDS for spec in outputs)
        shapes = {tensor.name: tuple(tensor.shape) for tensor in request.inputs}
        rows = _rows(shapes, model.inputs)
        shared_outputs = shared_tensors("output", request.outputs, memory)
        return cls(request, shapes, outputs, raw_answer, rows, shared_inputs, shared_outputs)

    @classmethod
    def _of_plain(cls, request: pb.ModelInferRequest, model: Model) -> Self | None:
        """The request, if it is as nearly all are: the declared inputs in their order and raw, and no parameters.

        Takes a fifth of the time of the whole check, which has the last word on all others.
        """
        inputs, declared = request.inputs, model.inputs
        if request.parameters or not len(inputs) == len(declared) == len(request.raw_input_contents):
            return None
        shapes: dict[str, tuple[int, ...]] = {}
        for tensor, spec in zip(inputs, declared, strict=True):
            shape = tuple(tensor.shape)
            if tensor.name != spec.name or tensor.datatype != spec.datatype or not spec.admits(shape):
                return None
            if tensor.parameters or tensor.HasField("contents"):
                return None
            shapes[spec.name] = shape
        requested = request.outputs
        if requested and any(tensor.parameters for tensor in requested):
            return None
        return cls(
            request, shapes, _requested_outputs(requested, model.outputs), raw=True, rows=_rows(shapes, declared)
        )

    def require_equal_rows(self) -> None:
        """Refuse a request whose inputs differ in their first dimension: its rows could not be told apart in a batch.

        Raises
        ------
        InvalidTensorError
            They differ.
        """
        for name, shape in self.shapes.items():
            if shape[0] != self.rows:
                raise InvalidTensorError(
                    f"input {name!r} has {shape[0]} rows, the first input {self.rows}; the model is batched, so all"
                    " inputs have the same first dimension"
                )

    @property
    def output_names(self) -> list[str]:
        """The outputs to answer with."""
        return [spec.name for spec in self.outputs]

    @property
    def signature(self) -> Hashable:
        """Equal for requests whose tensors can be stacked along their first dimension, and that want the same."""
        return tuple([(name, shape[1:]) for name, shape in self.shapes.items()]), tuple(self.output_names)

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
        inputs = self.request.inputs
        if self.request.raw_input_contents or self.shared_inputs:
            return self._raw_tensors()
        return {
            tensor.name: codec.decode_contents(tensor.name, tensor.datatype, self.shapes[tensor.name], tensor.contents)
            for tensor in inputs
        }

    def _raw_tensors(self) -> dict[str, Array]:
        """Read tensors of which some are in shared memory, or all are raw; they have entries in the inputs' order."""
        entries = iter(self.request.raw_input_contents)
        tensors: dict[str, Array] = {}
        for tensor in self.request.inputs:
            name, datatype = tensor.name, tensor.datatype
            shape = self.shapes[name]
            shared = self.shared_inputs.get(name)
            if shared:
                tensors[name] = codec.decode_raw(name, datatype, shape, shared.read())
            elif self.request.raw_input_contents:
                tensors[name] = codec.decode_raw(name, datatype, shape, next(entries))
            else:
                tensors[name] = codec.decode_contents(name, datatype, shape, tensor.contents)
        return tensors

    def response(self, results: Mapping[str, Array], version: str) -> pb.ModelInferResponse:
        """Write the answer: raw to a raw request, typed to a typed one."""
        response = pb.ModelInferResponse(model_name=self.request.model_name, model_version=version, id=self.request.id)
        for spec in self.outputs:
            tensor = _as_declared(spec, results[spec.name])
            output = response.outputs.add(name=spec.name, datatype=spec.datatype, shape=tensor.shape)
            shared = self.shared_outputs.get(spec.name)
            if shared:
                shared.write(tensor, spec.datatype, output)
                if self.raw:  # there is an entry for every output, as Triton has it
                    response.raw_output_contents.append(b"")
            elif self.raw:
                response.raw_output_contents.append(codec.encode_raw(tensor, spec.datatype))
            else:
                output.contents.CopyFrom(codec.encode_contents(tensor, spec.datatype))
        return response


def _refuse_parameters(owner: str, parameters: Mapping[str, pb.InferParameter], unsupported: frozenset[str]) -> None:
    refused = sorted(unsupported.intersection(parameters)) if parameters else []
    if refused:
        raise UnsupportedError(f"{owner}: parameter {', '.join(refused)} is not supported by this server")


def _check_names(role: str, given: list[str], declared: Sequence[TensorSpec]) -> None:
    names = [spec.name for spec in declared]
    if given == names:  # the usual case, on the path of every call
        return
    counts = Counter(given)
    unknown = [name for name in counts if name not in names]
    if unknown:
        raise InvalidTensorError(f"{role} {unknown[0]!r} is unknown; the model has {', '.join(names) or 'none'}")
    repeated = [name for name, times in counts.items() if times > 1]
    if repeated:
        raise InvalidTensorError(f"{role} {repeated[0]!r} is given {counts[repeated[0]]} times")
    missing = [name for name in names if name not in counts]
    if role == "input" and missing:
        raise InvalidTensorError(f"input {missing[0]!r} is missing; the model needs {', '.join(names)}")


def _check_inputs(inputs: Iterable[pb.ModelInferRequest.InferInputTensor], declared: Sequence[TensorSpec]) -> None:
    specs = {spec.name: spec for spec in declared}
    for tensor in inputs:
        spec = specs[tensor.name]
        _refuse_parameters(f"input {tensor.name!r}", tensor.parameters, _UNSUPPORTED_TENSOR_PARAMETERS)
        if tensor.datatype != spec.datatype:
            hint = "" if tensor.datatype in NUMPY_DTYPES else "; the datatype sent is not supported by this server"
            raise InvalidTensorError(
                f"input {tensor.name!r} has datatype {tensor.datatype!r}, the model expects {spec.datatype!r}{hint}"
            )
        if not spec.admits(tensor.shape):
            raise InvalidTensorError(
                f"input {tensor.name!r} has shape {list(tensor.shape)}, the model expects {list(spec.shape)}"
            )


def _requested_outputs(
    requested: Sequence[pb.ModelInferRequest.InferRequestedOutputTensor], declared: Sequence[TensorSpec]
) -> tuple[TensorSpec, ...]:
    if not requested:
        return tuple(declared)
    _check_names("output", [tensor.name for tensor in requested], declared)
    specs = {spec.name: spec for spec in declared}
    for tensor in requested:
        _refuse_parameters(f"output {tensor.name!r}", tensor.parameters, _UNSUPPORTED_TENSOR_PARAMETERS)
    return tuple(specs[tensor.name] for tensor in requested)


def _is_raw(request: pb.ModelInferRequest, shared: Mapping[str, SharedTensor]) -> bool:
    blobs = len(request.raw_input_contents)
    if shared:
        filled = [tensor.name for tensor in request.inputs if tensor.name in shared and tensor.HasField("contents")]
        if filled:
            raise InvalidTensorError(f"input {filled[0]!r} has contents and lies in shared memory; use one")
    sent = len(request.inputs) - len(shared)
    if not blobs:
        return not sent
    if blobs != sent:
        raise InvalidRequestError(
            f"raw_input_contents has {blobs} entries for {sent} inputs; it needs one per input"
            + (" that is not in shared memory" if shared else "")
        )
    typed = [tensor.name for tensor in request.inputs if tensor.HasField("contents")]
    if typed:
        raise InvalidTensorError(
            f"input {typed[0]!r} has contents while raw_input_contents is used; a request is raw or typed as a whole"
        )
    return True


def _rows(shapes: Mapping[str, tuple[int, ...]], declared: Sequence[TensorSpec]) -> int:
    """The batch size: the first dimension of the first input, where the model declares it variable."""
    if not declared or not declared[0].shape or declared[0].shape[0] != DYNAMIC:
        return 1
    return shapes[declared[0].name][0]


def _as_declared(spec: TensorSpec, tensor: Array) -> Array:
    """The tensor in the byte order and memory layout of the wire; no copy in the usual case."""
    if tensor.dtype == spec.dtype and tensor.flags.c_contiguous:
        return tensor
    if tensor.dtype.kind != spec.dtype.kind or tensor.dtype.itemsize != spec.dtype.itemsize:
        raise ModelFailedError(f"output {spec.name!r} has dtype {tensor.dtype}, but the model declares {spec.datatype}")
    return tensor if spec.datatype == BYTES else np.ascontiguousarray(tensor, dtype=spec.dtype).reshape(tensor.shape)

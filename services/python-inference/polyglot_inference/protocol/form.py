"""The form of a request: all of it but its name and its data, held against the model's metadata.

The rules are Triton's and KServe's (kserve/protocol/grpc/servicer.py `validate_grpc_request`); what this server does
not support is refused, never ignored.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from polyglot_inference.errors import InvalidRequestError, InvalidTensorError, UnsupportedError
from polyglot_inference.protocol import codec
from polyglot_inference.protocol.envelope import Envelope
from polyglot_inference.protocol.memory import SharedTensor, shared_tensors
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.runtime.model import Model
from polyglot_inference.runtime.shared_memory import SharedMemory
from polyglot_inference.tensors import DYNAMIC, NUMPY_DTYPES, TensorSpec

# Parameters that change what a call means. A server that ignored them would answer something else than was asked.
_UNSUPPORTED_REQUEST_PARAMETERS = frozenset({"sequence_id", "sequence_start", "sequence_end"})
_UNSUPPORTED_TENSOR_PARAMETERS = frozenset({"classification"})
# Triton's parameter of a request in a stream: tell the end of a decoupled model's answers by one without outputs.
_ENABLE_END = "triton_enable_empty_final_response"

MOST_FORMS: Final = 1024
"""How many forms of a model's requests are remembered."""
MOST_FORM_BYTES: Final = 2048
"""A longer form is not remembered: callers choose what a form holds, and with it the memory that it takes."""


@dataclass(slots=True, eq=False)
class Form:
    """What a request asks: tensors that are declared, of the right datatype and an admitted shape.

    Parameters
    ----------
    shapes
        Of the inputs, in the order in which they are sent.
    outputs
        What to answer with.
    raw
        Whether the answer is raw.
    rows
        The batch size, 1 where the model has none.
    raw_inputs
        All inputs, where `raw_input_contents` has an entry for each; else none.
    shared_inputs, shared_outputs
        Those in shared memory.
    shared_bytes
        Of the inputs there, which are copied when the request runs.
    output_names
        The names of `outputs`.
    signature
        Equal for requests whose tensors can be stacked along their first dimension, and that want the same.
    unequal_rows
        Why the request cannot be batched; empty where it can.
    raw_sizes
        How many bytes each of `raw_inputs` has; None where that differs.
    timeout_seconds
        How long the request may wait: Triton's parameter `timeout`, in microseconds on the wire; None without it.
    wants_end
        Whether the caller asks to be told the end of a decoupled model's answers.
    last_envelope
        That of the last raw answer, which most others have, too.
    """

    shapes: Mapping[str, tuple[int, ...]]
    outputs: tuple[TensorSpec, ...]
    raw: bool
    rows: int
    raw_inputs: Sequence[codec.RawTensor]
    shared_inputs: Mapping[str, SharedTensor]
    shared_outputs: Mapping[str, SharedTensor]
    shared_bytes: int
    output_names: Sequence[str]
    signature: Hashable
    unequal_rows: str
    raw_sizes: Sequence[int | None]
    timeout_seconds: float | None
    wants_end: bool
    last_envelope: Envelope | None = None

    @classmethod
    def of(
        cls, request: pb.ModelInferRequest, raws: Sequence[bytes], model: Model, memory: SharedMemory | None = None
    ) -> Self:
        """Hold a request against the model it names. Its data, `raws` where it is raw, is unread, whatever the size.

        Raises
        ------
        InvalidRequestError, InvalidTensorError
            The request contradicts the protocol or the model's metadata.
        UnsupportedError
            It asks for classification or sequences, or for shared memory where that is off.
        """
        _refuse_parameters("request", request.parameters, _UNSUPPORTED_REQUEST_PARAMETERS)
        _check_names("input", [tensor.name for tensor in request.inputs], model.inputs)
        _check_inputs(request.inputs, model.inputs)
        outputs = _requested_outputs(request.outputs, model.outputs)
        shared_inputs = shared_tensors("input", request.inputs, memory)
        raw = _is_raw(request, len(raws), shared_inputs)
        shapes = {tensor.name: tuple(tensor.shape) for tensor in request.inputs}
        rows = _rows(shapes, model.inputs)
        output_names = [spec.name for spec in outputs]
        raw_inputs = (
            [codec.RawTensor(tensor.name, tensor.datatype, shapes[tensor.name]) for tensor in request.inputs]
            if raw and not shared_inputs
            else []
        )
        return cls(
            shapes=shapes,
            outputs=outputs,
            # FP16 has no typed form, and one response is raw or typed as a whole.
            raw=raw or any(spec.datatype not in codec.CONTENTS_FIELDS for spec in outputs),
            rows=rows,
            raw_inputs=raw_inputs,
            shared_inputs=shared_inputs,
            shared_outputs=shared_tensors("output", request.outputs, memory),
            shared_bytes=sum(tensor.byte_size for tensor in shared_inputs.values()),
            output_names=output_names,
            signature=(tuple([(name, shape[1:]) for name, shape in shapes.items()]), tuple(output_names)),
            unequal_rows=_unequal_rows(shapes, rows),
            raw_sizes=[tensor.size for tensor in raw_inputs],
            timeout_seconds=_timeout_seconds(request),
            wants_end=_wants_end(request),
        )

    def require_equal_rows(self) -> None:
        """Refuse a request whose inputs differ in their first dimension: its rows could not be told apart in a batch.

        Raises
        ------
        InvalidTensorError
            They differ.
        """
        if self.unequal_rows:
            raise InvalidTensorError(self.unequal_rows)


class Forms:
    """The forms in which a model is asked, each checked once: nearly all requests are asked as another was before.

    Known are forms of requests whose tensors are all raw. They are told apart by the bytes of all that is left of a
    request without its data and its id, so that no form can pass for another.

    Parameters
    ----------
    model
        The model that is asked.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._known: dict[bytes, Form] = {}

    def __len__(self) -> int:
        return len(self._known)

    def of(self, request: pb.ModelInferRequest, raws: Sequence[bytes], memory: SharedMemory | None = None) -> Form:
        """The form of a request whose raw data was taken out; errors are those of `Form.of`."""
        if not raws:
            return Form.of(request, raws, self._model, memory)
        key = _without_id(request)
        form = self._known.get(key)
        if form is None or len(raws) != len(form.raw_inputs):
            form = Form.of(request, raws, self._model, memory)
            if form.raw_inputs and not form.shared_outputs and len(key) <= MOST_FORM_BYTES:
                self._remember(key, form)
        return form

    def _remember(self, key: bytes, form: Form) -> None:
        if len(self._known) >= MOST_FORMS:
            self._known.clear()  # those in use are soon back
        self._known[key] = form


def take_raws(request: pb.ModelInferRequest) -> Sequence[bytes]:
    """Take the raw data out of a request; what is left says its form."""
    raws = request.raw_input_contents[:]
    request.ClearField("raw_input_contents")
    return raws


def _without_id(request: pb.ModelInferRequest) -> bytes:
    request_id = request.id
    if not request_id:
        return request.SerializeToString()
    request.id = ""
    message = request.SerializeToString()
    request.id = request_id
    return message


def _timeout_seconds(request: pb.ModelInferRequest) -> float | None:
    # Reading an absent key of a protobuf map would create it.
    parameters = request.parameters
    microseconds = parameters["timeout"].int64_param if "timeout" in parameters else 0
    return microseconds / 1e6 if microseconds > 0 else None


def _wants_end(request: pb.ModelInferRequest) -> bool:
    parameters = request.parameters
    return _ENABLE_END in parameters and parameters[_ENABLE_END].bool_param


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


def _is_raw(request: pb.ModelInferRequest, blobs: int, shared: Mapping[str, SharedTensor]) -> bool:
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


def _unequal_rows(shapes: Mapping[str, tuple[int, ...]], rows: int) -> str:
    for name, shape in shapes.items():
        if shape[:1] != (rows,):
            return (
                f"input {name!r} has {shape[0] if shape else 'no'} rows, the first input {rows}; the model is batched,"
                " so all inputs have the same first dimension"
            )
    return ""

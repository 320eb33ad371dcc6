"""What the server asks of a model, whatever runs it."""

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from polyglot_inference.tensors import Array, TensorSpec

Parameter = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller sent beside the tensors, for a model that wants to know.

    Parameters
    ----------
    id
        The caller's name for the request; empty where it gave none.
    parameters
        The request's parameters, Triton's own (`timeout`, `triton_…`) among them.
    """

    id: str = ""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


NO_REQUEST: Final = Request()

Steps = Generator[Mapping[str, Array], None, None] | AsyncGenerator[Mapping[str, Array], None]
"""The answers to one request: a plain generator runs on the model's threads, an async one runs where it likes."""


class Stream(Protocol):
    """Answers one request any number of times; inputs, outputs and errors are as of `Model.predict`."""

    def __call__(self, inputs: Mapping[str, Array], outputs: Sequence[str], request: Request) -> Steps: ...


class Model(Protocol):
    """A loaded model.

    `predict` runs on threads of the model's own, at most `concurrency` at a time. It gets every declared input with
    the declared dtype and an admitted shape, and answers at least the requested outputs likewise; it raises an
    `InferenceError` of its choice or anything else, which the caller sees as `ModelFailedError`.
    """

    @property
    def platform(self) -> str:
        """The framework, as OIP names it: `onnxruntime_onnx` or `python`."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """The tensors it takes."""

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """The tensors it gives."""

    @property
    def concurrency(self) -> int:
        """How many calls may run at the same time."""

    @property
    def stream(self) -> Stream | None:
        """How it answers requests of a stream any number of times (Triton: decoupled); None where it answers once."""

    @property
    def wants_request(self) -> bool:
        """Whether `predict` and `stream` need the `Request`; others are spared the making of it."""

    def predict(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], request: Request = NO_REQUEST
    ) -> Mapping[str, Array]:
        """Run the model once."""

"""What the server asks of a model, whatever runs it."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from polyglot_inference.tensors import Array, TensorSpec


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

    def predict(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Mapping[str, Array]:
        """Run the model once."""

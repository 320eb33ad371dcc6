"""The folder's model, for Polyglot's inference server."""

from pathlib import Path

from polyglot_inference import TensorSpec

from .definitions import DEFINITIONS, Arrays

FOLDER = Path(__file__).parent
DEFINITION = DEFINITIONS[FOLDER.name]


class Model:
    """The definition's tensors and behaviour."""

    inputs = tuple(TensorSpec(t.name, t.datatype, t.shape) for t in DEFINITION.inputs)
    outputs = tuple(TensorSpec(t.name, t.datatype, t.shape) for t in DEFINITION.outputs)

    def load(self, path: Path) -> None:
        """Take as long as the definition does."""
        DEFINITION.load()

    def predict(self, inputs: Arrays) -> Arrays:
        """Answer once."""
        assert DEFINITION.predict is not None
        return DEFINITION.predict(inputs, FOLDER)

"""The folder's model, for Polyglot's inference server."""

from collections.abc import Iterator
from pathlib import Path

from polyglot_inference import TensorSpec

from .definitions import DEFINITIONS, Arrays

FOLDER = Path(__file__).parent
DEFINITION = DEFINITIONS[FOLDER.name]


class Defined:
    """The definition's tensors, and the loading of it."""

    inputs = tuple(TensorSpec(t.name, t.datatype, t.shape) for t in DEFINITION.inputs)
    outputs = tuple(TensorSpec(t.name, t.datatype, t.shape) for t in DEFINITION.outputs)

    def load(self, path: Path) -> None:
        """Take as long as the definition does."""
        DEFINITION.load()


class Answering(Defined):
    """A definition that answers once."""

    def predict(self, inputs: Arrays) -> Arrays:
        """Answer once."""
        assert DEFINITION.predict is not None
        return DEFINITION.predict(inputs, FOLDER)


class Streaming(Defined):
    """A definition that answers any number of times."""

    def stream(self, inputs: Arrays) -> Iterator[Arrays]:
        """Yield every answer."""
        assert DEFINITION.stream is not None
        yield from DEFINITION.stream(inputs)


Model = Streaming if DEFINITION.stream else Answering

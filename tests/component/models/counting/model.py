"""Counts for ever, a number for each step, and notes each step in a file: what a caller that left has stopped."""

import itertools
import pathlib
import time
from collections.abc import Iterator

import numpy as np

from polyglot_inference import TensorSpec


class Model:
    """`steps` is the path of the file; `number` is the step."""

    inputs = (TensorSpec("steps", "BYTES", [1]),)
    outputs = (TensorSpec("number", "INT32", [1]),)

    def stream(self, inputs: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        """Count, with half a second to each step."""
        steps = pathlib.Path(inputs["steps"][0].decode())
        for number in itertools.count(1):
            steps.write_text(str(number))
            yield {"number": np.array([number], dtype=np.int32)}
            time.sleep(0.5)

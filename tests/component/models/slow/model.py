"""A model that takes as long as it is told to."""

import pathlib
import time

import numpy as np

from polyglot_inference import TensorSpec


class Model:
    """Sleeps, then returns its input."""

    inputs = (TensorSpec("seconds", "FP32", [1]),)
    outputs = (TensorSpec("seconds", "FP32", [1]),)

    def load(self, path: pathlib.Path) -> None:
        """Nothing to load."""

    def predict(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Sleep for inputs["seconds"][0] seconds."""
        time.sleep(float(inputs["seconds"][0]))
        return {"seconds": inputs["seconds"]}

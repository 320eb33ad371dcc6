"""A model in plain Python: what do these texts say about themselves?

A model is a folder with this file. The server imports it, makes one `Model`, calls `load` once and `predict` for
every request. Copy this file, change the three parts marked 1, 2 and 3, and you have a model of your own.
"""

# ruff: noqa: RUF012 - `inputs` and `outputs` are declarations, not state

import math
import pathlib
from collections import Counter

import numpy as np

from polyglot_inference import TensorSpec


class Model:
    """Statistics of texts: words, characters and how varied the words are."""

    # 1. What goes in and what comes out. Callers see this as the model's metadata, and the server holds every request
    # and every answer to it. -1 stands for any size: here, any number of texts per request.
    inputs = [TensorSpec("text", "BYTES", [-1])]
    outputs = [
        TensorSpec("words", "INT64", [-1]),
        TensorSpec("characters", "INT64", [-1]),
        TensorSpec("entropy", "FP32", [-1]),
    ]

    # 2. Once, before the server reports Ready: read weights, build tables. `path` is the folder of this file.
    def load(self, path: pathlib.Path) -> None:
        """Nothing to read: this model has no weights."""

    # 3. Once per request, on a thread of this model; one call at a time, so `self` needs no lock. The arrays that
    # come in are read-only. An exception becomes an error to the caller (INTERNAL, with your message); the stack
    # goes to the server's log.
    def predict(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Describe each text of the batch.

        `text` holds one element of type bytes per text; the answers have one row per text: words, characters, and the
        entropy of the word distribution in bits (0 for one word repeated, log2(n) for n different words).
        """
        texts = [element.decode(errors="replace") for element in inputs["text"]]
        return {
            "words": np.array([len(text.split()) for text in texts], dtype=np.int64),
            "characters": np.array([len(text) for text in texts], dtype=np.int64),
            "entropy": np.array([entropy(text.lower().split()) for text in texts], dtype=np.float32),
        }


def entropy(words: list[str]) -> float:
    """Shannon entropy of the words' frequencies, in bits; 0 for no words."""
    shares = [count / len(words) for count in Counter(words).values()]
    return -sum(share * math.log2(share) for share in shares)

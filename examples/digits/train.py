"""Train the digits model and write the files of this example; running it again gives the same bytes.

    .venv/bin/python examples/digits/train.py            # train, check the accuracy, write
    .venv/bin/python examples/digits/train.py --check    # train, and fail if a checked-in file would change

The data are scikit-learn's 1,797 handwritten digits of 8 x 8 grey values from 0 to 16 (UCI "Optical Recognition of
Handwritten Digits"). A quarter is held out from training: it measures the accuracy, and the demo's 40 requests come
from it.

Files: model.onnx (input `x` FP32[-1, 64]; outputs `label` INT64[-1] and `probabilities` FP32[-1, 10]), model.yaml (the
same file as a ConfigMap) and held_out.json (digits the model has never seen, with the labels people gave them).
"""

import base64
import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

HERE = Path(__file__).resolve().parent
SEED = 7
DEMO_DIGITS = 40
NEEDED_ACCURACY = 0.97
LARGEST_GREY = 16
OPSET = {"": 21, "ai.onnx.ml": 3}

Pixels = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


def main() -> None:
    """Train, then write the example's files, or compare them with the checked-in ones."""
    pixels, labels = load_digits(return_X_y=True)
    known, unseen, known_labels, unseen_labels = train_test_split(
        pixels, labels, test_size=0.25, stratify=labels, random_state=SEED
    )
    classifier = train(known, known_labels)
    accuracy = classifier.score(unseen, unseen_labels)
    print(f"accuracy on {len(unseen)} held-out digits: {accuracy:.4f}")
    if accuracy < NEEDED_ACCURACY:
        sys.exit(f"accuracy is below {NEEDED_ACCURACY}; nothing written")

    model = export(classifier)
    files = {
        "model.onnx": model,
        "model.yaml": config_map(model),
        "held_out.json": held_out(unseen[:DEMO_DIGITS], unseen_labels[:DEMO_DIGITS]),
    }
    if sys.argv[1:] == ["--check"]:
        check(files)
    else:
        for name, content in files.items():
            (HERE / name).write_bytes(content)
            print(f"wrote {name}: {len(content)} bytes")


def train(pixels: Pixels, labels: Labels) -> LogisticRegression:
    """Fit a multinomial logistic regression.

    Its optimum is unique and Newton's method finds it to far more digits than we keep, so that every machine, whatever
    the order in which its linear algebra adds up, gives the same file.
    """
    classifier = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-10, max_iter=100)
    classifier.fit(pixels / LARGEST_GREY, labels)
    # Folding the scale into the weights lets the model take the grey values as they are.
    classifier.coef_ = classifier.coef_.round(4) / LARGEST_GREY
    classifier.intercept_ = classifier.intercept_.round(4)
    return classifier


def export(classifier: LogisticRegression) -> bytes:
    """Convert to ONNX, with plain tensors as outputs: zipmap would make a list of dicts of the probabilities."""
    model: Any = to_onnx(
        classifier,
        name="digits",
        initial_types=[("x", FloatTensorType([None, 64]))],
        options={"zipmap": False},
        target_opset=OPSET,
    )
    return bytes(model.SerializeToString(deterministic=True))


def config_map(model: bytes) -> bytes:
    """Wrap the model in the ConfigMap that digits.yaml names as its source."""
    lines = textwrap.wrap(base64.b64encode(model).decode(), 100)
    head = [
        "# Written by train.py.",
        "apiVersion: v1",
        "kind: ConfigMap",
        "metadata:",
        "  name: digits-model",
        "binaryData:",
        "  model.onnx: |",
    ]
    return "\n".join([*head, *(f"    {line}" for line in lines), ""]).encode()


def held_out(pixels: Pixels, labels: Labels) -> bytes:
    """The demo's requests: one digit per line, its 64 grey values row by row and its label."""
    digits = [
        json.dumps({"label": int(label), "pixels": digit.astype(int).tolist()})
        for digit, label in zip(pixels, labels, strict=True)
    ]
    return ("[\n" + ",\n".join(digits) + "\n]\n").encode()


def check(files: dict[str, bytes]) -> None:
    """Exit with status 1 when a checked-in file differs from what training gives."""
    stale = [name for name, content in files.items() if (HERE / name).read_bytes() != content]
    if stale:
        sys.exit(f"{', '.join(stale)} differ from what train.py gives; run it without --check and commit the files")
    print(f"{', '.join(files)} are what train.py gives")


if __name__ == "__main__":
    main()

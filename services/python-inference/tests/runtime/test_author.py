"""What a class must look like to be served: whatever is amiss is told before it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from polyglot_inference.errors import ModelLoadError
from polyglot_inference.runtime.author import Authored

if TYPE_CHECKING:
    from polyglot_inference.settings import ModelSettings
    from tests.conftest import WritePython

BARE = "class Model:\n  inputs = outputs = []\n"


def ignored(fraction: float, text: str = "") -> None:
    """Progress that no test looks at."""


def load(settings: ModelSettings) -> Authored:
    return Authored.load(settings.name, settings.path, ignored)


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("import nothing_of_that_name", "importing .* raised ModuleNotFoundError"),
        ("class Network: pass", "defines no class Model"),
        ("Model = 3", "defines no class Model"),
        ("class Model: outputs = []", "must declare 'inputs' as a list of TensorSpec"),
        ("class Model: inputs = [3]; outputs = []", "'inputs' of class Model is wrong"),
        (
            "class Model: inputs = [dict(name='x', datatype='FLOAT', shape=[1])]; outputs = []",
            "'inputs' of class Model is wrong: tensor 'x': datatype 'FLOAT' is none of BOOL",
        ),
        (
            "class Model: inputs = []; outputs = 2 * [dict(name='x', datatype='FP32', shape=[1])]",
            "'outputs' of class Model has two tensors of the same name",
        ),
        ("class Model: inputs = []; outputs = []", "has no method 'predict' and no 'stream'; it needs predict"),
        (f"{BARE}  async def predict(self, inputs): pass", "predict is `async def`; it is called on a thread"),
        (f"{BARE}  def predict(self, inputs): yield", "predict has a `yield`; .* in a method `stream`"),
        (f"{BARE}  async def predict(self, inputs): yield", "predict has a `yield`"),
        (f"{BARE}  def stream(self, inputs): return []", "stream must be a generator"),
        (f"{BARE}  async def stream(self, inputs): return []", "stream must be a generator"),
        (f"{BARE}  predict = print\n  stream = 3", "stream must be a generator"),
        (f"{BARE}  def predict(self): pass", r"predict\(\) cannot be called .* declare it as predict\(self, inputs\)"),
        (
            f"{BARE}  def predict(self, x, y): pass",
            r"predict\(x, y\) cannot be called \(missing a required argument: 'y'\)",
        ),
        (
            f"{BARE}  def stream(self): yield",
            r"declare it as stream\(self, inputs\) or stream\(self, inputs, request\)",
        ),
        (f"{BARE}  predict = print\n  async def load(self, path): pass", "load is `async def`"),
        (f"{BARE}  predict = print\n  def load(self): pass", r"load\(self, path\) or load\(self, path, progress\)"),
        (f"{BARE}  predict = print\n  def __init__(self, size): pass", r"making a Model\(\) raised TypeError"),
        (
            "class Model:\n  inputs = outputs = []\n  predict = print\n  def load(self, _): raise OSError('lost')",
            r"Model\.load raised OSError: lost",
        ),
    ],
)
def test_a_wrong_class_is_refused_with_the_reason(python_model: WritePython, source: str, complaint: str) -> None:
    settings = python_model("wrong", source)
    with pytest.raises(ModelLoadError, match=f"model 'wrong': .*{complaint}"):
        load(settings)


def test_loading_an_empty_folder_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"model\.py does not exist; a model of format Python is a folder"):
        Authored.load("none", tmp_path, ignored)


@pytest.mark.parametrize("source", ["def predict(self, inputs): pass", "def predict(self, inputs, *, request): pass"])
def test_a_class_needs_nothing_beyond_its_tensors_and_one_method(python_model: WritePython, source: str) -> None:
    authored = load(python_model("small", f"{BARE}  {source}"))
    assert authored.stream is None
    assert authored.predict is not None
    assert authored.predict.wants_request is ("request" in source)


def test_loading_tells_how_far_it_is_where_the_class_does(python_model: WritePython) -> None:
    told: list[tuple[float, str]] = []
    settings = python_model(
        "large",
        f"""{BARE}
  predict = print

  def load(self, path, progress):
    progress(0.5, path.name)
    progress(1)
""",
    )
    Authored.load("large", settings.path, lambda fraction, text="": told.append((fraction, text)))
    assert told == [(0.5, "large"), (1, "")]

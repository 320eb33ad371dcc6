"""The model without a server: `pytest examples/python-model`. The fixture `model` comes with polyglot_inference."""

from pathlib import Path

import pytest

from polyglot_inference.testing import LoadModel


def test_each_text_is_described_in_a_row_of_its_own(model: LoadModel) -> None:
    answer = model(Path(__file__).parent).predict(text=["a b A c", "größer", "", b"\xff"])
    assert answer["words"].tolist() == [4, 1, 0, 1]
    assert answer["characters"].tolist() == [7, 6, 0, 1]
    assert answer["entropy"].tolist() == pytest.approx([1.5, 0, 0, 0])

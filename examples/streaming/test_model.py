"""The model without a server: `pytest examples/streaming`. The fixture `model` comes with polyglot_inference."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from polyglot_inference import Array, InvalidTensorError, Request
from polyglot_inference.testing import LoadModel

HERE = Path(__file__).parent
WORDS = set((HERE / "alice.txt").read_text().split())


def texts(answers: Iterable[Mapping[str, Array]]) -> list[str]:
    return [answer["text_output"][0].decode() for answer in answers]


def test_a_story_begins_as_asked_and_goes_on_in_the_words_of_the_book(model: LoadModel) -> None:
    words = texts(model(HERE).stream(Request(parameters={"max_words": 40}), text_input=["down went Alice"]))
    assert words[:3] == ["down", "went", "Alice"]
    assert len(words) == 40
    assert set(words) <= WORDS


def test_a_seed_tells_the_same_story_streamed_and_whole(model: LoadModel) -> None:
    storyteller = model(HERE)
    asked = Request(parameters={"max_words": 30, "seed": 7})
    streamed = texts(storyteller.stream(asked, text_input=[""]))
    assert texts([storyteller.predict(asked, text_input=[""])]) == [" ".join(streamed)]


def test_two_words_are_followed_by_what_follows_them_in_the_book(model: LoadModel) -> None:
    (answer,) = texts([model(HERE).predict(Request(parameters={"max_words": 6}), text_input=["White"])])
    assert answer.startswith("White Rabbit ")


@pytest.mark.parametrize("wrong", [0, 1001, "many", 2.5])
def test_a_wrong_length_is_refused_with_the_bounds(model: LoadModel, wrong: float | str) -> None:
    with pytest.raises(InvalidTensorError, match=r"max_words is .* from 1 to 1000"):
        model(HERE).predict(Request(parameters={"max_words": wrong}), text_input=[""])

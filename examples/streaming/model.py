"""A model that streams: a story told word by word, in the manner of a text that it has read.

A Markov chain: which word follows two others, as often as it does in `alice.txt`. `stream` yields each word when it is
chosen, `predict` returns the whole story; a model may have either or both.
"""

# ruff: noqa: RUF012, S311 - `inputs` and `outputs` are declarations, not state; a story needs no secret dice

import itertools
import pathlib
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator

import numpy as np

from polyglot_inference import Array, InvalidTensorError, Progress, Request, TensorSpec

LONGEST = 1000


class Model:
    """Continues a text: `text_input` is its beginning, or empty for one of the model's own."""

    # These names are those of REST's `generate` and `generate_stream`.
    inputs = [TensorSpec("text_input", "BYTES", [1])]
    outputs = [TensorSpec("text_output", "BYTES", [1])]

    def load(self, path: pathlib.Path, progress: Progress) -> None:
        """Learn from the text; while a long one is read, logs and those who ask for the model hear how far it is."""
        self.beginnings: list[str] = []
        self.after_two: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
        self.after_one: defaultdict[str, list[str]] = defaultdict(list)
        paragraphs = (path / "alice.txt").read_text().split("\n\n")
        for number, paragraph in enumerate(paragraphs):
            self.learn(paragraph.split())
            progress((number + 1) / len(paragraphs), "reading alice.txt")

    def learn(self, words: list[str]) -> None:
        """Count which word follows which."""
        self.beginnings.append(words[0])
        for first, second in itertools.pairwise(words):
            self.after_one[first].append(second)
        for first, second, third in zip(words, words[1:], words[2:], strict=False):
            self.after_two[first, second].append(third)

    def predict(self, inputs: dict[str, Array], request: Request) -> dict[str, Array]:
        """The whole story at once, on a thread of the model."""
        return answer(" ".join(self.words(inputs, request)))

    async def stream(self, inputs: dict[str, Array], request: Request) -> AsyncIterator[dict[str, Array]]:
        """The story word by word: the next is chosen when the caller has taken the last one.

        An async generator runs on an event loop of the model's, beside others: right for steps that await something.
        Steps that compute belong into a plain `def stream`, which the server runs on a thread, in turn with calls.
        """
        for word in self.words(inputs, request):
            yield answer(word)

    def words(self, inputs: dict[str, Array], request: Request) -> Iterator[str]:
        """The story's words. The caller chooses by parameters: `max_words`, and `seed` to hear a story again."""
        most = request.parameters.get("max_words", 60)
        if not isinstance(most, int) or not 1 <= most <= LONGEST:
            raise InvalidTensorError(f"parameter max_words is {most!r}; it must be a whole number from 1 to {LONGEST}")
        seed = request.parameters.get("seed")
        dice = random.Random(None if seed is None else str(seed))
        story = inputs["text_input"][0].decode(errors="replace").split() or [dice.choice(self.beginnings)]
        for place in range(most):
            if place >= len(story):
                story.append(dice.choice(self.following(story)))
            yield story[place]

    def following(self, story: list[str]) -> list[str]:
        """The words that may come next, each as often as it came in the text."""
        last = story[-1]
        return self.after_two.get((*story[-2:-1], last)) or self.after_one.get(last) or self.beginnings


def answer(text: str) -> dict[str, Array]:
    """One answer with one text."""
    return {"text_output": np.array([text.encode()], dtype=np.object_)}

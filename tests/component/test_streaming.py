"""Streams through the gateway: an unmodified Triton client, server-sent events, and the example that tells a story."""

import json
import queue
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton

from tests.component.processes import Chain
from tests.http import call

SECONDS = 20
SEED = {"seed": 7, "max_words": 30}


def opening(text: str) -> list[triton.InferInput]:
    tensor = triton.InferInput("text_input", [1], "BYTES")
    return [tensor.set_data_from_numpy(np.array([text.encode()], dtype=np.object_))]


@contextmanager
def stream(service: Chain) -> Iterator[tuple[triton.InferenceServerClient, "queue.Queue[tuple[Any, Any]]"]]:
    """A stream, and the answers that have come."""
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with triton.InferenceServerClient(service.grpc) as client:
        client.start_stream(lambda result, error: answers.put((result, error)), stream_timeout=SECONDS)
        yield client, answers


def metric(service: Chain, name: str) -> float:
    lines = call(f"{service.metrics}/metrics").body.decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.split("{")[0].split(" ")[0] == name)


def test_a_story_comes_word_by_word_and_is_the_one_that_is_told_at_once(service: Chain) -> None:
    body = {
        "inputs": [{"name": "text_input", "datatype": "BYTES", "shape": [1], "data": ["Alice was"]}],
        "parameters": SEED,
    }
    whole = call(f"{service.rest}/v2/models/storyteller/infer", body).json()["outputs"][0]["data"][0]
    with stream(service) as (client, answers):
        client.async_stream_infer("storyteller", opening("Alice was"), request_id="a", parameters=SEED)
        client.stop_stream()
    words = [result.as_numpy("text_output")[0].decode() for result, error in answers.queue if error is None]
    assert len(words) == 30
    assert " ".join(words) == whole
    assert {result.get_response().id for result, _ in answers.queue} == {"a"}


def test_the_failure_of_a_request_passes_the_gateway_and_the_stream_stays_open(service: Chain) -> None:
    with stream(service) as (client, answers):
        client.async_stream_infer("storyteller", opening(""), parameters={"max_words": 0})
        _, error = answers.get(timeout=SECONDS)
        assert "max_words is 0" in error.message()
        client.async_stream_infer("storyteller", opening("Down,"), parameters={"max_words": 1})
        result, error = answers.get(timeout=SECONDS)
        assert error is None
        assert result.as_numpy("text_output").tolist() == [b"Down,"]


def test_a_caller_that_leaves_the_gateway_frees_the_model(service: Chain) -> None:
    with stream(service) as (client, answers):
        for _ in range(50):
            client.async_stream_infer("storyteller", opening(""), parameters={"max_words": 1000})
        answers.get(timeout=SECONDS)
        assert metric(service, "polyglot_inference_streams") >= 1
        client.stop_stream(cancel_requests=True)
    deadline = time.monotonic() + SECONDS
    while metric(service, "polyglot_inference_streams") or service.in_flight():
        assert time.monotonic() < deadline, "the stream is still open"
        time.sleep(0.05)


@contextmanager
def events(service: Chain, model: str, body: dict[str, Any]) -> Iterator[Iterator[dict[str, Any]]]:
    """The server-sent events of generate_stream, as they come."""
    request = urllib.request.Request(f"{service.rest}/v2/models/{model}/generate_stream", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=SECONDS) as reply:
        yield (json.loads(line.removeprefix(b"data:")) for line in reply if line.startswith(b"data:"))


def test_a_story_is_told_by_server_sent_events_and_whole_by_the_same_words(service: Chain) -> None:
    body = {"text_input": "Alice was", **SEED}
    with events(service, "storyteller", body) as told:
        words = [event["text_output"] for event in told]
    assert len(words) == 30
    assert words[:2] == ["Alice", "was"]
    with events(service, "storyteller", {"text_input": "Alice was", "parameters": SEED}) as told:
        assert [event["text_output"] for event in told] == words
    once = call(f"{service.rest}/v2/models/storyteller/generate", {"text_input": "Once", "max_words": 1}).json()
    assert once["text_output"] == "Once"


def test_a_caller_that_leaves_its_events_stops_the_model_within_one_step(service: Chain, tmp_path: Path) -> None:
    steps = tmp_path / "steps"
    with events(service, "counting", {"steps": str(steps)}) as numbers:
        assert [next(numbers)["number"] for _ in range(3)] == [1, 2, 3]
    deadline = time.monotonic() + SECONDS
    while metric(service, "polyglot_inference_streams"):
        assert time.monotonic() < deadline, "the stream is still open"
        time.sleep(0.05)
    left = int(steps.read_text())
    time.sleep(1.2)  # more than two steps
    assert left <= 4
    assert int(steps.read_text()) == left

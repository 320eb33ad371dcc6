"""Items 15 and 19: ModelStreamInfer, generate and generate_stream."""

from __future__ import annotations

import contextlib
import json
import queue
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from tritonclient.utils import InferenceServerException

from tests.conformance.clients import SECONDS, Rest, Triton, error_of, text
from tests.conformance.suite import AIO_GRPC, GRPC, REST, check, equal, refused

Answer = tuple[Any, Any]
"""A result and an error; one of them is None."""


def _stream(client: Triton, requests: Sequence[dict[str, Any]], wanted: int) -> list[Answer]:
    """Send requests over one stream, end it, and return all answers once it has ended, or `wanted` at the most."""
    if client.kind == AIO_GRPC:
        return client.wait(_stream_asynchronously(client, requests, wanted))  # type: ignore[no-any-return]
    answers: queue.Queue[Answer] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)), stream_timeout=SECONDS)
    try:
        with contextlib.suppress(InferenceServerException):  # of a broken stream, whose reason is an answer
            for request in requests:
                client.async_stream_infer(**request)
        return [_intact(answers.get(timeout=SECONDS)) for _ in range(wanted)]
    finally:
        client.stop_stream()


def _intact(answer: Answer) -> Answer:
    """Return an answer, which must not be the end of the stream by a status."""
    _, error = answer
    if error is not None and error.status() is not None:
        raise error
    return answer


async def _stream_asynchronously(client: Triton, requests: Sequence[dict[str, Any]], wanted: int) -> list[Answer]:
    async def sent() -> AsyncIterator[dict[str, Any]]:
        for request in requests:
            yield request

    answers: list[Answer] = []
    async for answer in client.native.stream_infer(sent(), stream_timeout=SECONDS):
        answers.append(answer)
        if len(answers) == wanted:
            break
    return answers


def _request(client: Triton, model: str, words: str, **fields: Any) -> dict[str, Any]:
    return {"model_name": model, "inputs": [client.tensor("text_input", text(words))], **fields}


def _texts(answers: Sequence[Answer]) -> list[str]:
    """Return the texts of answers, of which none may be an error."""
    failed = [error for _, error in answers if error is not None]
    if failed:
        raise failed[0]
    return [result.as_numpy("text_output")[0].decode() for result, _ in answers]


@check(15, "1:1: each request of a stream is answered, with its id", [GRPC, AIO_GRPC])
def stream_one_to_one(client: Triton) -> None:
    words = ["one", "two", "three"]
    answers = _stream(client, [_request(client, "text", word, request_id=word) for word in words], 3)
    equal(sorted(_texts(answers)), ["ONE", "THREE", "TWO"], "texts")
    equal(
        {r.get_response().id: r.as_numpy("text_output")[0].decode() for r, _ in answers},
        {w: w.upper() for w in words},
        "by id",
    )


@check(15, "1:N: one request, an answer for each word, in order", [GRPC, AIO_GRPC])
def stream_one_to_many(client: Triton) -> None:
    equal(_texts(_stream(client, [_request(client, "words", "a b c")], 3)), ["a", "b", "c"], "texts")


@check(15, "1:0: no answer but the final flag, where the caller asks for it", [GRPC])
def stream_one_to_none(client: Triton) -> None:
    ((result, error),) = _stream(client, [_request(client, "words", "", enable_empty_final_response=True)], 1)
    if error:
        raise error
    response = result.get_response()
    equal(response.parameters["triton_final_response"].bool_param, True, "triton_final_response")
    equal(len(response.outputs), 0, "number of outputs")


@check(15, "the last answer of 1:N has the final flag, the others have not", [GRPC])
def stream_final_flag(client: Triton) -> None:
    answers = _stream(client, [_request(client, "words", "a b", enable_empty_final_response=True)], 3)
    _texts(answers[:2])
    flags = [result.get_response().parameters["triton_final_response"].bool_param for result, _ in answers]
    equal(flags, [False, False, True], "triton_final_response")


@check(15, "an error in mid-stream leaves the stream open for other requests", [GRPC, AIO_GRPC])
def stream_error(client: Triton) -> None:
    answers = _stream(client, [_request(client, "words", words) for words in ("fail", "after")], 2)
    errors = [str(error.message()) for _, error in answers if error is not None]
    assert len(errors) == 1, f"{len(errors)} errors: {'; '.join(errors)}"
    assert "told to fail" in errors[0], errors[0]
    equal(_texts([answer for answer in answers if answer[1] is None]), ["after"], "texts")


@check(15, "an unknown model in a stream is an answer, and the stream stays open", [GRPC, AIO_GRPC])
def stream_unknown_model(client: Triton) -> None:
    answers = _stream(client, [_request(client, "absent", "a"), _request(client, "text", "after")], 2)
    errors = [str(error.message()) for _, error in answers if error is not None]
    assert len(errors) == 1, f"{len(errors)} errors: {'; '.join(errors)}"
    assert "absent" in errors[0], errors[0]
    equal(_texts([answer for answer in answers if answer[1] is None]), ["AFTER"], "texts")


@check(15, "half-close: a stream that the caller has ended still delivers every answer", [GRPC])
def stream_half_close(client: Triton) -> None:
    answers: queue.Queue[Answer] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)), stream_timeout=SECONDS)
    with contextlib.suppress(InferenceServerException):
        for word in ("a", "b", "c"):
            client.async_stream_infer(**_request(client, "text", word))
    client.stop_stream()  # closes the sending half and waits for the rest
    equal(sorted(_texts(list(answers.queue))), ["A", "B", "C"], "texts")


@check(19, "generate: one JSON answer to text_input", [REST])
def generate(client: Rest) -> None:
    answer = client.json("/v2/models/text/generate", {"text_input": "hello"})
    equal((answer["model_name"], answer["text_output"]), ("text", "HELLO"), "model and text")


@check(19, "generate: a model's error has a status and `error`", [REST])
def generate_error(client: Rest) -> None:
    reply = client.call("/v2/models/text/generate", {"text_input": "fail"})
    equal(reply.status, 500, "status")
    assert "told to fail" in error_of(reply), error_of(reply)


@check(19, "generate: an unknown model is not found", [REST])
def generate_unknown(client: Rest) -> None:
    client.json("/v2/models/text/generate", {"text_input": "known"})
    for route in ("generate", "generate_stream"):
        with refused(404, naming="absent"):
            client.json(f"/v2/models/absent/{route}", {"text_input": "hello"})


@check(19, "generate_stream: an event for each answer", [REST])
def generate_stream(client: Rest) -> None:
    events = list(_events(client, "words", "a b c"))
    equal([event.get("text_output") for event in events], ["a", "b", "c"], "texts")


@check(19, "generate_stream: an error after the first event is an event with `error`", [REST])
def generate_stream_error(client: Rest) -> None:
    events = list(_events(client, "words", "a fail"))
    equal(events[0].get("text_output"), "a", "first text")
    assert "told to fail" in str(events[-1].get("error")), f"the last event is {events[-1]}"


def _events(client: Rest, model: str, words: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON of each event of a stream that must be one."""
    url = f"http://{client.instance.rest}/v2/models/{model}/generate_stream"
    request = urllib.request.Request(
        url, json.dumps({"text_input": words}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=SECONDS) as reply:
        kind = reply.headers["Content-Type"]
        assert kind.startswith("text/event-stream"), f"Content-Type is {kind}"
        for line in reply:
            if line.startswith(b"data:"):
                yield json.loads(line.removeprefix(b"data:"))

"""Failures in a stream: answers of their requests, or the status of the stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from polyglot_inference.protocol.pb import grpc_service_pb2 as pb

if TYPE_CHECKING:
    from polyglot_inference.settings import ModelSettings
    from tests.conftest import RawRequest, Serve, WritePython
    from tests.streams.conftest import Streams


async def test_the_failure_of_a_request_is_an_answer_and_the_stream_stays_open(
    streams: Streams, serve: Serve, count: ModelSettings, asked: Callable[..., pb.ModelInferRequest]
) -> None:
    async with serve(count) as serving:
        call = serving.stub.ModelStreamInfer(timeout=streams.SECONDS)
        expected = {
            "unlucky": (asked(13), "MODEL_FAILED", "model 'count' raised ValueError: unlucky"),
            "absent": (asked(1, model="absent"), "MODEL_NOT_FOUND", "model 'absent' is not served here"),
            "empty": (pb.ModelInferRequest(model_name="count"), "INVALID_TENSOR", "input 'x' is missing"),
        }
        for name, (request, error_code, text) in expected.items():
            request.id = name
            await call.write(request)
            answer = await streams.read(call)
            if name == "unlucky":
                assert streams.number(answer) == 0
                answer = await streams.read(call)
            assert answer.error_message.startswith(text)
            assert (answer.infer_response.id, streams.code(answer), streams.is_final(answer)) == (
                name,
                error_code,
                True,
            )
        await call.write(asked(1))
        assert streams.number(await streams.read(call)) == 0
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK
        assert serving.count("count", "INTERNAL") == 1
        assert serving.count("", "NOT_FOUND") == 1
        assert streams.module("count").closed == [13, 1]


async def test_a_caller_may_ask_for_the_first_failure_as_the_status_of_the_stream(
    streams: Streams, serve: Serve, count: ModelSettings, asked: Callable[..., pb.ModelInferRequest]
) -> None:
    async with serve(count) as serving:
        call = serving.stub.ModelStreamInfer(timeout=streams.SECONDS, metadata=(("triton_grpc_error", "true"),))
        await call.write(asked(1000, id="endless"))
        await call.read()
        await call.write(asked(1, model="absent"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await streams.read_on(call)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert dict(caught.value.trailing_metadata())["x-error-code"] == "MODEL_NOT_FOUND"
        await streams.until(lambda: streams.module("count").closed == [1000], "the other request of the stream ends")


async def test_a_failure_that_comes_while_an_answer_is_written_is_the_status_of_the_stream(
    streams: Streams, serve: Serve, count: ModelSettings, asked: Callable[..., pb.ModelInferRequest]
) -> None:
    async with serve(count) as serving:
        for _ in range(50):
            call = serving.stub.ModelStreamInfer(timeout=streams.SECONDS, metadata=(("triton_grpc_error", "true"),))
            for number in range(4):
                await call.write(asked(2, id=str(number)))
            await call.write(asked(1, model="absent"))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await streams.read_on(call)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_failure_is_told_even_where_the_names_it_repeats_exceed_the_limit(
    streams: Streams, serve: Serve, count: ModelSettings, asked: Callable[..., pb.ModelInferRequest]
) -> None:
    async with serve(count, max_message_bytes=2048) as serving:
        long = asked(1, model="absent", id="i" * 2000)
        answers = await streams.exchange(serving, long, asked(1, id="next"))
        assert {answer.infer_response.id: streams.code(answer) for answer in answers} == {
            long.id: "MODEL_NOT_FOUND",
            "next": "",
        }


async def test_bytes_that_are_no_request_are_an_answer_and_the_stream_stays_open(
    streams: Streams, serve: Serve, count: ModelSettings, asked: Callable[..., pb.ModelInferRequest]
) -> None:
    async with serve(count) as serving:
        call: Any = serving.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")(
            timeout=streams.SECONDS
        )
        await call.write(b"\xff")
        answer = pb.ModelStreamInferResponse.FromString(await call.read())
        assert "the request is no valid protobuf message" in answer.error_message
        assert (answer.infer_response.id, streams.code(answer)) == ("", "INVALID_REQUEST")
        await call.write(asked(1).SerializeToString())
        assert streams.number(pb.ModelStreamInferResponse.FromString(await call.read())) == 0


async def test_a_message_over_the_limit_is_an_answer_that_names_the_request(
    streams: Streams, serve: Serve, python_model: WritePython, identity: ModelSettings, raw_request: RawRequest
) -> None:
    grow = python_model(
        "grow",
        """
        import numpy as np
        from polyglot_inference import TensorSpec

        class Model:
            inputs = [TensorSpec("x", "INT64", [1])]
            outputs = [TensorSpec("y", "UINT8", [-1])]

            def stream(self, inputs):
                for factor in (1, 2, 3):
                    yield {"y": np.zeros(factor * int(inputs["x"][0]), np.uint8)}
        """,
    )
    async with serve(grow, identity, max_message_bytes=2048) as serving:
        large = raw_request("identity", "x", "FP32", np.zeros((200, 4), np.float32), id="large")
        (answer,) = await streams.exchange(serving, large)
        assert (answer.infer_response.id, streams.code(answer)) == ("large", "MESSAGE_TOO_LARGE")
        assert "the request has 3" in answer.error_message
        first, second = await streams.exchange(serving, raw_request("grow", "x", "INT64", np.array([1500]), id="grown"))
        assert len(first.infer_response.raw_output_contents[0]) == 1500
        assert (second.infer_response.id, streams.code(second)) == ("grown", "MESSAGE_TOO_LARGE")
        assert "the response has 30" in second.error_message

"""A lane as a gateway opens it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

import grpc
import numpy as np
import pytest

from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.protocol.pb import lane_pb2

if TYPE_CHECKING:
    from tests.conftest import Serving

SECONDS: Final = 20


class Lane:
    """One open lane of a client, which sends bytes."""

    def __init__(self, serving: Serving, **keywords: Any) -> None:
        carry: Any = serving.channel.stream_stream(
            "/polyglot.v1.Lane/Carry", response_deserializer=lane_pb2.LaneResponse.FromString
        )
        self.stream = carry(timeout=SECONDS, **keywords)

    async def send(self, data: bytes) -> None:
        await self.stream.write(data)

    async def begin(self, call: int, infer: pb.ModelInferRequest, **fields: Any) -> None:
        await self.send(lane_pb2.LaneRequest(call=call, infer=infer, **fields).SerializeToString())

    async def cancel(self, call: int) -> None:
        await self.send(lane_pb2.LaneRequest(call=call, cancel=True).SerializeToString())

    async def close(self) -> None:
        """End the lane, whose answers are all read."""
        await self.stream.done_writing()
        assert await self.stream.read() is grpc.aio.EOF
        assert await self.stream.code() is grpc.StatusCode.OK

    async def read(self) -> lane_pb2.LaneResponse:
        """The next answer of a lane that goes on."""
        answer = await self.stream.read()
        assert isinstance(answer, lane_pb2.LaneResponse), answer
        return answer

    async def failure(self, call: int) -> tuple[grpc.StatusCode, str, dict[str, str]]:
        """Status, text and trailers of the next answer, which is the failure of this call."""
        answer = await self.read()
        assert (answer.call, answer.WhichOneof("outcome")) == (call, "failure"), answer
        failure = answer.failure
        (status,) = [status for status in grpc.StatusCode if status.value[0] == failure.status]
        return status, failure.message, {trailer.key: trailer.value for trailer in failure.trailers}

    async def ended(self) -> grpc.aio.AioRpcError:
        """What the lane ends with, without another answer."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.stream.read()
        return caught.value

    @staticmethod
    def values(answer: lane_pb2.LaneResponse, dtype: type[np.generic] = np.int64) -> list[float]:
        assert answer.WhichOneof("outcome") == "infer", answer
        return np.frombuffer(answer.infer.raw_output_contents[0], dtype).tolist()  # type: ignore[no-any-return]


class OpenLane(Protocol):
    """Opens a lane to a server."""

    def __call__(self, serving: Serving, **keywords: Any) -> Lane: ...


@pytest.fixture
def open_lane() -> OpenLane:
    return Lane


@pytest.fixture
def asked(raw_request: Callable[..., pb.ModelInferRequest]) -> Callable[..., pb.ModelInferRequest]:
    """Makes a request to the model `gated`."""

    def make(*values: int, **fields: Any) -> pb.ModelInferRequest:
        return raw_request("gated", "x", "INT64", np.array(values), **fields)

    return make


def sample(serving: Serving, name: str, **labels: str) -> float:
    return serving.server.metrics.registry.get_sample_value(f"polyglot_inference_{name}", labels) or 0.0


@pytest.fixture(name="sample")
def sample_fixture() -> Callable[..., float]:
    return sample


@pytest.fixture
def until() -> Callable[..., Any]:
    """Waits for what the server does when nobody is told."""

    async def wait(condition: Callable[[], bool], what: str) -> None:
        for _ in range(100 * SECONDS):
            if condition():
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"not within {SECONDS} s: {what}")

    return wait

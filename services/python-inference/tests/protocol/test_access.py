"""Restricted groups of calls, and the read-only mode, over a real channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from pydantic import SecretStr

from polyglot_inference.protocol.access import APIS
from polyglot_inference.protocol.calls import SERVICE
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.settings import AdministrationSettings, ModelSettings, Restriction

if TYPE_CHECKING:
    from tests.conftest import Serve

RESTRICTED = AdministrationSettings(
    mode="Full",
    restricted=[
        Restriction.model_construct(
            apis=["statistics", "model-repository"], header="x-admin", value=SecretStr("letmein")
        )
    ],
)
ADMITTED = (("triton-grpc-protocol-x-admin", "letmein"),)


def test_every_call_belongs_to_a_group() -> None:
    assert APIS.keys() == {method.name for method in SERVICE.methods}


@pytest.mark.parametrize(
    "metadata",
    [(), (("x-admin", "letmein"),), (("triton-grpc-protocol-x-admin", "wrong"),)],
    ids=["without", "unprefixed", "wrong value"],
)
async def test_a_restricted_call_is_refused(
    serve: Serve, identity: ModelSettings, metadata: tuple[tuple[str, str], ...]
) -> None:
    async with serve(identity, administration=RESTRICTED) as serving:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await serving.stub.ModelStatistics(pb.ModelStatisticsRequest(), metadata=metadata)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "restricted" in str(caught.value.details())
    assert "triton-grpc-protocol-x-admin" in str(caught.value.details())
    assert "letmein" not in str(caught.value.details())
    assert dict(caught.value.trailing_metadata())["x-error-code"] == "PERMISSION_DENIED"


async def test_a_restricted_call_is_admitted_with_its_header_and_others_need_none(
    serve: Serve, identity: ModelSettings
) -> None:
    async with serve(identity, administration=RESTRICTED) as serving:
        answer = await serving.stub.ModelStatistics(pb.ModelStatisticsRequest(), metadata=ADMITTED)
        assert [model.name for model in answer.model_stats] == ["identity"]
        assert (await serving.stub.RepositoryIndex(pb.RepositoryIndexRequest(), metadata=ADMITTED)).models
        assert (await serving.stub.ServerLive(pb.ServerLiveRequest())).live
        assert await serving.health() == 1


async def test_a_restricted_stream_is_refused_and_admitted_with_its_header(
    serve: Serve, identity: ModelSettings
) -> None:
    restriction = Restriction.model_construct(apis=["inference"], header="x-user", value=SecretStr("letmein"))
    async with serve(identity, administration=AdministrationSettings(restricted=[restriction])) as serving:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await serving.stub.ModelStreamInfer().read()
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert dict(caught.value.trailing_metadata())["x-error-code"] == "PERMISSION_DENIED"
        admitted = serving.stub.ModelStreamInfer(metadata=(("triton-grpc-protocol-x-user", "letmein"),))
        await admitted.done_writing()
        assert await admitted.read() is grpc.aio.EOF


async def test_a_read_only_server_answers_questions_and_refuses_changes(serve: Serve, identity: ModelSettings) -> None:
    async with serve(identity) as serving:
        assert (await serving.stub.RepositoryIndex(pb.RepositoryIndexRequest())).models[0].state == "READY"
        for change in (
            serving.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="identity")),
            serving.stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="identity")),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await change
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
            assert "administration.mode is ReadOnly" in str(caught.value.details())
        assert (await serving.stub.ModelReady(pb.ModelReadyRequest(name="identity"))).ready

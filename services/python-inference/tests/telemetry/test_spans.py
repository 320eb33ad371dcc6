"""Spans as a real OTLP endpoint receives them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.telemetry.sampling import CallSampler, TraceSettings
from polyglot_inference.telemetry.traces import Tracing

if TYPE_CHECKING:
    from polyglot_inference.settings import ModelSettings
    from tests.conftest import RawRequest, Receiver, Serve, WritePython

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
CALLER_SPAN = "b7ad6b7169203331"
SAMPLED = (("traceparent", f"00-{TRACE_ID}-{CALLER_SPAN}-01"),)
NOT_SAMPLED = (("traceparent", f"00-{TRACE_ID}-{CALLER_SPAN}-00"),)
SERVER_KIND = 2
X = np.zeros((2, 4), np.float32)


async def test_a_call_is_a_child_of_its_caller_and_the_execution_a_child_of_the_call(
    serve: Serve, identity: ModelSettings, raw_request: RawRequest, receiver: Receiver
) -> None:
    tracing = Tracing(OTLPSpanExporter(receiver.endpoint))
    async with serve(identity, tracing=tracing) as serving:
        await serving.stub.ModelInfer(raw_request("identity", "x", "FP32", X), metadata=SAMPLED)
    assert tracing.close(20)
    spans = {span.name: span for span in receiver.spans}
    assert set(spans) == {"inference.GRPCInferenceService/ModelInfer", "execute"}
    call, execute = spans["inference.GRPCInferenceService/ModelInfer"], spans["execute"]
    assert (call.trace_id, call.parent_id, call.kind, call.error) == (TRACE_ID, CALLER_SPAN, SERVER_KIND, False)
    assert (execute.trace_id, execute.parent_id) == (TRACE_ID, call.span_id)
    assert call.attributes == {
        "rpc.system": "grpc",
        "rpc.service": "inference.GRPCInferenceService",
        "rpc.method": "ModelInfer",
        "rpc.grpc.status_code": 0,
        "polyglot.model.name": "identity",
        "polyglot.model.version": "1",
    }
    assert execute.attributes == {"polyglot.model.name": "identity"}


async def test_a_callers_decision_not_to_sample_is_honoured(
    serve: Serve, identity: ModelSettings, raw_request: RawRequest, receiver: Receiver
) -> None:
    tracing = Tracing(OTLPSpanExporter(receiver.endpoint))
    async with serve(identity, tracing=tracing) as serving:
        await serving.stub.ModelInfer(raw_request("identity", "x", "FP32", X), metadata=NOT_SAMPLED)
    assert tracing.close(20)
    assert receiver.spans == []


async def test_a_callers_mistake_is_a_status_and_not_an_error_of_the_span(
    serve: Serve, identity: ModelSettings, raw_request: RawRequest, receiver: Receiver
) -> None:
    tracing = Tracing(OTLPSpanExporter(receiver.endpoint))
    async with serve(identity, tracing=tracing) as serving:
        with pytest.raises(grpc.aio.AioRpcError):
            await serving.stub.ModelInfer(raw_request("identity", "z", "FP32", X), metadata=SAMPLED)
    assert tracing.close(20)
    (span,) = receiver.spans
    assert (span.attributes["rpc.grpc.status_code"], span.error) == (3, False)


async def test_a_models_failure_is_an_error_of_its_span_and_of_the_call(
    serve: Serve, python_model: WritePython, raw_request: RawRequest, receiver: Receiver
) -> None:
    source = """
        class Model:
            inputs = outputs = [dict(name="x", datatype="FP32", shape=[-1, 4])]
            load = print

            def predict(self, inputs):
                raise RuntimeError("no")
    """
    tracing = Tracing(OTLPSpanExporter(receiver.endpoint))
    async with serve(python_model("fragile", source), tracing=tracing) as serving:
        with pytest.raises(grpc.aio.AioRpcError):
            await serving.stub.ModelInfer(raw_request("fragile", "x", "FP32", X), metadata=SAMPLED)
    assert tracing.close(20)
    assert {span.name: span.error for span in receiver.spans} == {
        "inference.GRPCInferenceService/ModelInfer": True,
        "execute": True,
    }


@pytest.mark.parametrize("metadata", [(), NOT_SAMPLED])
async def test_a_model_knows_the_trace_of_an_unsampled_call_and_that_it_is_not_sampled(
    serve: Serve, python_model: WritePython, raw_request: RawRequest, metadata: tuple[tuple[str, str], ...]
) -> None:
    source = """
        from opentelemetry import propagate

        class Model:
            inputs = outputs = [dict(name="x", datatype="FP32", shape=[-1, 4])]
            load = print

            def predict(self, inputs):
                passed_on = {}
                propagate.inject(passed_on)
                raise RuntimeError(passed_on["traceparent"])
    """
    tracing = Tracing(InMemorySpanExporter(), CallSampler(TraceSettings(on=True, share=0.0)))
    async with serve(python_model("fragile", source), tracing=tracing) as serving:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await serving.stub.ModelInfer(raw_request("fragile", "x", "FP32", X), metadata=metadata)
    trailers = dict(caught.value.trailing_metadata() or ())
    assert re.search(f"00-{trailers['x-trace-id']}-[0-9a-f]{{16}}-00$", caught.value.details() or "")
    assert not metadata or trailers["x-trace-id"] == TRACE_ID


async def test_health_checks_leave_no_spans(serve: Serve, identity: ModelSettings, receiver: Receiver) -> None:
    tracing = Tracing(OTLPSpanExporter(receiver.endpoint))
    async with serve(identity, tracing=tracing) as serving:
        await serving.health("")
        await serving.stub.ServerLive(pb.ServerLiveRequest())
    assert tracing.close(20)
    assert [span.name for span in receiver.spans] == ["inference.GRPCInferenceService/ServerLive"]

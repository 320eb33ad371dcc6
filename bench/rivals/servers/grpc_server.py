"""What a user would write by hand: a minimal server of the protocol on grpc.aio and uvloop, a process per worker."""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import served
import uvloop

sys.path.insert(0, str(Path(__file__).parents[3] / "services/python-inference"))
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb

SERVICE = "inference.GRPCInferenceService"
DTYPES = {"FP32": "<f4", "INT64": "<i8"}
model = served.model()
DATATYPES = {tensor.name: tensor.datatype for tensor in model.outputs}


async def infer(request: Any, _context: Any) -> Any:
    """Run the model on the loop."""
    answer = model(
        {
            tensor.name: np.frombuffer(raw, DTYPES[tensor.datatype]).reshape(tuple(tensor.shape))
            for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        }
    )
    outputs = [
        pb.ModelInferResponse.InferOutputTensor(name=name, datatype=DATATYPES[name], shape=array.shape)
        for name, array in answer.items()
    ]
    raw = [array.tobytes() for array in answer.values()]
    return pb.ModelInferResponse(model_name=request.model_name, outputs=outputs, raw_output_contents=raw)


async def stream(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
    """Answer each request of the stream once."""
    async for request in requests:
        yield pb.ModelStreamInferResponse(infer_response=await infer(request, context))


async def serve() -> None:
    """Serve until the process is ended."""
    limits = [(f"grpc.max_{way}_message_length", 2**26) for way in ("send", "receive")]
    server = grpc.aio.server(options=limits)
    handlers = {
        "ModelInfer": grpc.unary_unary_rpc_method_handler(
            infer, pb.ModelInferRequest.FromString, pb.ModelInferResponse.SerializeToString
        ),
        "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(
            stream, pb.ModelInferRequest.FromString, pb.ModelStreamInferResponse.SerializeToString
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(f"127.0.0.1:{served.GRPC_PORT}")
    await server.start()
    await server.wait_for_termination()


def main() -> None:
    """Run one worker."""
    uvloop.install()
    asyncio.run(serve())


if __name__ == "__main__":
    others = [multiprocessing.get_context("spawn").Process(target=main) for _ in range(served.WORKERS - 1)]
    for other in others:
        other.start()
    main()

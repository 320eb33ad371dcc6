"""A trace collector that takes what it is sent and keeps nothing: `python -m bench.rivals.collector PORT`."""

from __future__ import annotations

import sys
from concurrent import futures
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


class Sink(trace_service_pb2_grpc.TraceServiceServicer):
    """Answers every export with success."""

    def Export(self, _request: Any, _context: Any) -> Any:  # noqa: N802 - the service's name for it
        """Take spans."""
        return trace_service_pb2.ExportTraceServiceResponse()


def main() -> None:
    """Serve until the process is ended."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Sink(), server)  # type: ignore[no-untyped-call]
    server.add_insecure_port(f"127.0.0.1:{int(sys.argv[1])}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()

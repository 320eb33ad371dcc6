"""grpc.health.v1, as the kubelet and clients ask it.

Service "" is readiness: SERVING only while the process is Ready. Service "liveness" is SERVING as long as the process
answers, also while models load and while it drains. Source:
https://github.com/grpc/grpc/blob/master/doc/health-checking.md.
"""

from typing import Final

from grpc_health.v1 import health, health_pb2

from polyglot_inference.lifecycle import State

READINESS: Final = ""
LIVENESS: Final = "liveness"


class Health(health.aio.HealthServicer):
    """The health service, following the lifecycle. Other services are NOT_FOUND."""

    async def observe_state(self, state: State) -> None:
        """Publish what a state means for readiness and liveness."""
        ready = state is State.READY
        await self.set(
            READINESS, health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        await self.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)

"""The model for Ray Serve: starts a Ray of its own, and serves until it is stopped."""

from __future__ import annotations

import signal
from typing import Any

import ray
import served
from ray import serve
from starlette.requests import Request


class Served:
    """One array in, one out."""

    def __init__(self) -> None:
        self._model = served.SingleTensor()

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Answer one request."""
        rows = (await request.json())["input"]
        if served.BATCH > 1:
            return {"output": [await self._stacked(rows[0])]}
        return {"output": self._model(rows).tolist()}

    @serve.batch(max_batch_size=served.BATCH, batch_wait_timeout_s=served.BATCH_SECONDS)  # type: ignore[untyped-decorator,unused-ignore]
    async def _stacked(self, rows: list[Any]) -> list[Any]:
        answer: list[Any] = self._model(rows).tolist()
        return answer


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, logging_level="warning")
    serve.start(http_options={"host": "127.0.0.1", "port": served.PORT}, logging_config={"enable_access_log": False})
    deployment = serve.deployment(Served, num_replicas=served.WORKERS, max_ongoing_requests=256)
    serve.run(deployment.options(ray_actor_options={"num_cpus": 0.5}).bind())
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()

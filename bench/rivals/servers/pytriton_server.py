"""The model for PyTriton, which starts a Triton whose Python backend calls this process."""

from __future__ import annotations

import signal
from typing import Any

import numpy as np
import served
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

DTYPES = {"FP32": np.float32, "INT64": np.int64}
BATCH = 64
ON_LOOPBACK = {f"{port}_address": "127.0.0.1" for port in ("http", "grpc", "metrics")}


def infer_function(model: Any) -> Any:
    """Return a model as PyTriton's guide has one: a function of stacked rows."""

    @batch  # type: ignore[untyped-decorator,unused-ignore]
    def infer(**arrays: Any) -> dict[str, Any]:
        # A vector of one value per row is a column: Triton asks for a dimension beside the rows.
        return {name: array[:, None] if array.ndim == 1 else array for name, array in model(arrays).items()}

    return infer


def tensors(declared: tuple[served.Tensor, ...]) -> list[Any]:
    """Declare tensors without their rows, which PyTriton adds."""
    return [Tensor(name=each.name, dtype=DTYPES[each.datatype], shape=each.shape[1:] or (1,)) for each in declared]


if __name__ == "__main__":
    models = [served.model() for _ in range(served.WORKERS)]
    ports = {"http_port": served.PORT, "grpc_port": served.GRPC_PORT, "metrics_port": served.METRICS_PORT}
    with Triton(config=TritonConfig(**ON_LOOPBACK, **ports)) as triton:
        triton.bind(
            model_name=served.NAME,
            infer_func=[infer_function(model) for model in models],
            inputs=tensors(models[0].inputs),
            outputs=tensors(models[0].outputs),
            config=ModelConfig(max_batch_size=BATCH, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
            strict=False,
        )
        triton.run()
        signal.sigwait({signal.SIGTERM, signal.SIGINT})

"""The model for BentoML."""

from __future__ import annotations

import bentoml
import numpy as np
import served


@bentoml.service(workers=served.WORKERS, logging={"access": {"enabled": False}})  # type: ignore[untyped-decorator,unused-ignore]
class Served:
    """One array in, one out."""

    def __init__(self) -> None:
        self._model = served.SingleTensor()

    # max_latency_ms is how late an answer may be before BentoML refuses: as far as the load generator's patience.
    @bentoml.api(batchable=served.BATCH > 1, max_batch_size=max(served.BATCH, 2), max_latency_ms=10_000)  # type: ignore[untyped-decorator,unused-ignore]
    def predict(self, x: np.ndarray) -> np.ndarray:
        """Run the model."""
        answer: np.ndarray = self._model(x)
        return answer

"""The model for LitServe."""

from typing import Any

import litserve
import numpy as np
import served
from fastapi import Request


class Api(litserve.LitAPI):  # type: ignore[misc,unused-ignore]
    """One array in, one out."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe names it
        """Load the model."""
        self._model = served.SingleTensor()

    def decode_request(self, request: Request) -> Any:
        """Read the array's one row. LitServe asks the annotation what to pass: of a Request, its JSON."""
        return np.asarray(request["input"], dtype=np.float32)[0]

    def batch(self, inputs: list[Any]) -> Any:
        """Stack rows."""
        return np.stack(inputs)

    def predict(self, x: Any) -> Any:
        """Run the model on one row, or on the stacked ones."""
        return self._model(x) if served.BATCH > 1 else self._model(x[None])[0]

    def unbatch(self, output: Any) -> Any:
        """Give the rows back."""
        return list(output)

    def encode_response(self, output: Any) -> dict[str, Any]:
        """Write the array."""
        return {"output": [output.tolist()]}


if __name__ == "__main__":
    api = Api(max_batch_size=served.BATCH, batch_timeout=served.BATCH_SECONDS if served.BATCH > 1 else 0.0)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=served.WORKERS, track_requests=False)
    server.run(host="127.0.0.1", port=served.PORT, log_level="warning", access_log=False, generate_client_file=False)

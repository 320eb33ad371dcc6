"""What a user would write by hand: FastAPI and orjson, the protocol's JSON without its checks."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import served
from fastapi import FastAPI, Request, Response

DTYPES = {"FP32": np.float32, "INT64": np.int64}

app = FastAPI()
model = served.model()


@app.post(f"/v2/models/{served.NAME}/infer")  # type: ignore[untyped-decorator,unused-ignore]
async def infer(request: Request) -> Response:
    """Run the model on the loop."""
    inputs = orjson.loads(await request.body())["inputs"]
    answer = model(
        {each["name"]: np.array(each["data"], dtype=DTYPES[each["datatype"]]).reshape(each["shape"]) for each in inputs}
    )
    return Response(
        orjson.dumps({"model_name": served.NAME, "outputs": [_output(name, answer[name]) for name in answer]}),
        media_type="application/json",
    )


def _output(name: str, array: Any) -> dict[str, Any]:
    datatype = "FP32" if array.dtype == np.float32 else "INT64"
    return {"name": name, "datatype": datatype, "shape": array.shape, "data": array.ravel().tolist()}

"""Triton's own Python client, unmodified, against this server."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polyglot_inference.settings import ModelSettings
    from tests.conftest import Serve, WritePython

ECHO = """
    from polyglot_inference import TensorSpec

    class Model:
        inputs = outputs = [TensorSpec("text", "BYTES", [-1, 2]), TensorSpec("half", "FP16", [3])]
        load = print

        def predict(self, inputs):
            return inputs
"""

# In a process of its own: the client brings its own copy of the protocol's messages.
CLIENT = """
import json, sys
import numpy as np
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

def tensor(name, datatype, array):
    made = triton.InferInput(name, array.shape, datatype)
    made.set_data_from_numpy(array)
    return made

def refused(call):
    try:
        call()
    except InferenceServerException as error:
        return [error.status(), error.message()]

client = triton.InferenceServerClient(sys.argv[1])
x = tensor("x", "FP32", np.arange(8, dtype=np.float32).reshape(2, 4))
text = tensor("text", "BYTES", np.array([["gr\\u00f6\\u00dfer".encode(), b""], [b"\\x00", b"b"]], dtype=np.object_))
half = tensor("half", "FP16", np.array([0.5, -2, 65504], dtype=np.float16))
answer = client.infer("identity", [x], request_id="7")
echo = client.infer("echo", [text, half])
subset = client.infer("echo", [text, half], outputs=[triton.InferRequestedOutput("half")])
metadata = client.get_model_metadata("identity", as_json=True)
print(json.dumps({
    "states": [client.is_server_live(), client.is_server_ready(), client.is_model_ready("identity")],
    "unknown model ready": client.is_model_ready("unknown"),
    "server": client.get_server_metadata(as_json=True),
    "input": metadata["inputs"],
    "id": answer.get_response().id,
    "y": answer.as_numpy("y").tolist(),
    "text": [element.hex() for element in echo.as_numpy("text").ravel()],
    "half": echo.as_numpy("half").tolist(),
    "subset": [output.name for output in subset.get_response().outputs],
    "unknown model": refused(lambda: client.infer("unknown", [x])),
    "wrong shape": refused(lambda: client.infer("identity", [tensor("x", "FP32", np.zeros((1, 3), np.float32))])),
    "statistics": [
        [model["name"], model["inference_stats"]["success"]["count"]]
        for model in client.get_inference_statistics(as_json=True)["model_stats"]
    ],
    "configuration": client.get_model_config("identity", as_json=True)["config"]["input"],
    "index": [[model.name, model.state] for model in client.get_model_repository_index().models],
    "unload": refused(lambda: client.unload_model("identity"))[0],
}))
"""


async def test_tritons_client_works_unchanged(serve: Serve, identity: ModelSettings, python_model: WritePython) -> None:
    async with serve(identity, python_model("echo", ECHO)) as serving:
        client = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            CLIENT,
            serving.server.grpc_address,
            stdout=asyncio.subprocess.PIPE,
        )
        stdout, _ = await client.communicate()
    assert client.returncode == 0
    assert json.loads(stdout) == {
        "states": [True, True, True],
        "unknown model ready": False,
        "server": {
            "name": "polyglot-inference",
            "version": "0.1.0",
            "extensions": [
                "binary_tensor_data",
                "logging",
                "model_configuration",
                "model_repository",
                "parameters",
                "statistics",
                "trace",
            ],
        },
        "input": [{"name": "x", "datatype": "FP32", "shape": ["-1", "4"]}],
        "id": "7",
        "y": [[0, 1, 2, 3], [4, 5, 6, 7]],
        "text": ["größer".encode().hex(), "", "00", "62"],
        "half": [0.5, -2, 65504],
        "subset": ["half"],
        "unknown model": [
            "StatusCode.NOT_FOUND",
            "model 'unknown' is not served here; served are: identity, echo",
        ],
        "wrong shape": [
            "StatusCode.INVALID_ARGUMENT",
            "input 'x' has shape [1, 3], the model expects [-1, 4]",
        ],
        "statistics": [["identity", "1"], ["echo", "2"]],
        "configuration": [{"name": "x", "data_type": "TYPE_FP32", "dims": ["-1", "4"]}],
        "index": [["identity", "READY"], ["echo", "READY"]],
        "unload": "StatusCode.PERMISSION_DENIED",
    }

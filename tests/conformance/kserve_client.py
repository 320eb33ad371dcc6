"""KServe's own SDK against a server: `kserve_client.py REST|gRPC ADDRESS` prints what failed, as JSON, by check.

Runs in an environment of its own: KServe and Triton's client each bring the protocol's messages, and one process can
hold only one of the two.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig


class Probe:
    """The SDK's two clients behind one face."""

    def __init__(self, kind: str, address: str) -> None:
        self.rest = kind == "REST"
        self._base = (f"http://{address}",) if self.rest else ()
        self._client: Any = (
            InferenceRESTClient(RESTConfig(protocol="v2")) if self.rest else InferenceGRPCClient(address)
        )

    async def states(self) -> None:
        """Live, ready, and the model ready."""
        assert await self._client.is_server_live(*self._base), "not live"
        assert await self._client.is_server_ready(*self._base), "not ready"
        assert await self._client.is_model_ready(*self._base, "identity-fp32"), "identity-fp32 is not ready"

    async def unknown(self) -> None:
        """An unknown model is not ready."""
        assert not await self._client.is_model_ready(*self._base, "absent"), "absent is ready"

    async def numbers(self) -> None:
        """FP32, in JSON over REST and raw over gRPC."""
        await self._returns("identity-fp32", "FP32", np.arange(8, dtype=np.float32).reshape(2, 4), binary=not self.rest)

    async def binary(self) -> None:
        """FP16, in the binary extension over REST and raw over gRPC."""
        await self._returns("identity-fp16", "FP16", np.arange(8, dtype=np.float16).reshape(2, 4), binary=True)

    async def text(self) -> None:
        """BYTES, in JSON over REST and raw over gRPC."""
        words = np.array(["größer".encode(), b""], dtype=np.object_)
        await self._returns("identity-bytes", "BYTES", words, binary=not self.rest)

    async def _returns(self, model: str, datatype: str, sent: Any, *, binary: bool) -> None:
        tensor = InferInput("x", list(sent.shape), datatype)
        tensor.set_data_from_numpy(sent, binary_data=binary)
        parameters = {"binary_data_output": True} if self.rest and binary else None
        request = InferRequest(model, [tensor], request_id="kserve-7", parameters=parameters)
        if self.rest:
            answer = await self._client.infer(*self._base, request, model_name=model)
        else:
            answer = await self._client.infer(request)
        assert answer.id == "kserve-7", f"the id is {answer.id!r}"
        received = answer.outputs[0].as_numpy()
        if datatype == "BYTES":
            received = np.array([w.encode() if isinstance(w, str) else w for w in received.ravel()], dtype=np.object_)
        np.testing.assert_array_equal(received, sent)

    async def close(self) -> None:
        """End the client's connections."""
        await self._client.close()


async def main(kind: str, address: str) -> dict[str, str | None]:
    """Return each check's failure, None where there is none."""
    probe = Probe(kind, address)
    checks = (probe.states, probe.unknown, probe.numbers, probe.binary, probe.text)
    found = {check.__name__: await failure_of(check) for check in checks}
    await probe.close()
    return found


async def failure_of(check: Callable[[], Awaitable[None]]) -> str | None:
    """Run one check."""
    try:
        await check()
    except grpc.RpcError as error:
        return f"{error.code()} {error.details()}"
    except Exception as error:  # noqa: BLE001 - the SDK and its transports raise what they like; all of it is a finding
        return f"{type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    logging.disable()
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))))

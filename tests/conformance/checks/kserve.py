"""Items 1, 3, 4 and 9 by KServe's SDK."""

from __future__ import annotations

from tests.conformance.clients import KServe
from tests.conformance.suite import KSERVE, STARTING_SECONDS, check


@check(1, "KServe's SDK finds server and model ready", KSERVE, STARTING_SECONDS)
def sdk_ready(client: KServe) -> None:
    client.probe("states")


@check(1, "KServe's SDK finds an unknown model not ready", KSERVE, STARTING_SECONDS)
def sdk_unknown(client: KServe) -> None:
    client.probe("unknown")


@check(3, "KServe's SDK: FP32, as JSON over REST, raw over gRPC; the id comes back", KSERVE, STARTING_SECONDS)
def sdk_numbers(client: KServe) -> None:
    client.probe("numbers")


@check(3, "KServe's SDK: FP16, in the binary extension over REST, raw over gRPC", KSERVE, STARTING_SECONDS)
def sdk_binary(client: KServe) -> None:
    client.probe("binary")


@check(4, "KServe's SDK: BYTES, as JSON over REST, raw over gRPC", KSERVE, STARTING_SECONDS)
def sdk_text(client: KServe) -> None:
    client.probe("text")

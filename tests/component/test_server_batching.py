"""Calls of many clients in one execution: Triton's client against the inference server's own process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tests.component.processes import ROOT, free_port, running, wait_until, write_yaml

ROWS = {"name": "rows", "format": "Python", "path": str(ROOT / "tests/component/models/rows")}
CALLERS, CALLS = 16, 25


@contextmanager
def serving(folder: Path, model: dict[str, Any], **sections: Any) -> Iterator[str]:
    """Run an inference server with one model; yields its address."""
    address = f"127.0.0.1:{free_port()}"
    config = {
        "models": [model],
        "grpc": {"listen": [address]},
        "metrics": {"host": "127.0.0.1", "port": free_port()},
        **sections,
    }
    command = [str(Path(sys.executable).parent / "polyglot-inference"), "--config"]
    with running([*command, str(write_yaml(folder / "inference.yaml", config))], folder / "inference.log") as process:
        with triton.InferenceServerClient(address) as client:
            wait_until(lambda: _ready(client), [process])
        yield address


def _ready(client: triton.InferenceServerClient) -> bool:
    try:
        return bool(client.is_server_ready())
    except InferenceServerException:
        return False  # not listening yet


def infer(client: triton.InferenceServerClient, rows: list[int]) -> tuple[list[int], list[int]]:
    tensor = triton.InferInput("x", [len(rows), 1], "INT64")
    tensor.set_data_from_numpy(np.array(rows, np.int64).reshape(-1, 1))
    result = client.infer("rows", [tensor], client_timeout=30)
    return result.as_numpy("x").ravel().tolist(), result.as_numpy("rows").tolist()


def call_repeatedly(address: str, caller: int) -> list[int]:
    """Call with rows of one's own, of changing number; returns how many rows ran with each."""
    sizes: list[int] = []
    # A connection of its own, as separate programs have.
    with triton.InferenceServerClient(address, channel_args=[("grpc.use_local_subchannel_pool", 1)]) as client:
        for number in range(CALLS):
            rows = [caller * 1000 + number * 10 + place for place in range(1 + number % 3)]
            answer, together = infer(client, rows)
            assert answer == rows
            sizes += together
    return sizes


def test_callers_at_the_same_time_share_executions_and_get_their_own_rows(tmp_path: Path) -> None:
    model = {**ROWS, "batching": {"maxSize": 32}}
    with serving(tmp_path, model) as address, ThreadPoolExecutor(CALLERS) as callers:
        sizes = [
            size
            for sizes in callers.map(lambda caller: call_repeatedly(address, caller), range(CALLERS))
            for size in sizes
        ]
    assert max(sizes) <= 32
    assert float(np.mean(sizes)) > 8


def test_without_batching_every_call_runs_alone(tmp_path: Path) -> None:
    with serving(tmp_path, ROWS) as address, ThreadPoolExecutor(4) as callers:
        sizes = [
            size for sizes in callers.map(lambda caller: call_repeatedly(address, caller), range(4)) for size in sizes
        ]
    assert max(sizes) <= 3


def test_a_call_on_which_the_model_fails_fails_alone(tmp_path: Path) -> None:
    def call(address: str, row: int) -> str:
        with triton.InferenceServerClient(address, channel_args=[("grpc.use_local_subchannel_pool", 1)]) as client:
            try:
                return str(infer(client, [row])[0])
            except InferenceServerException as error:
                return str(error.message())

    model = {**ROWS, "batching": {"maxSize": 32}}
    asked = [row if row % 5 else -row - 1 for row in range(40)]
    with serving(tmp_path, model) as address, ThreadPoolExecutor(len(asked)) as callers:
        answers = list(callers.map(lambda row: call(address, row), asked))
    assert answers == [f"[{row}]" if row >= 0 else "model 'rows' raised ValueError: a row is negative" for row in asked]

"""Serve a PolyglotService on this machine, send it one request with Triton's client, and print what it answers.

`make try TRY_ONCE=1` runs this. It starts `polyglot serve`, reads from the first model's metadata what goes in, makes
one row of it, and ends the server as Ctrl-C would. A model that streams is asked by `ModelStreamInfer`, and each answer
printed when it comes. Exit status: 0 when the model answered and the server drained.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

SERVING = re.compile(r"serving (\S+): ")
READY = re.compile(r"ready: REST (\S+), gRPC ([^,]+),")
SENTENCE = b"to be or not to be"
SECONDS = 30

Answer = dict[str, list[object]]


class AskError(Exception):
    """There is no answer; the text says why."""


@contextmanager
def served(words: list[str]) -> Iterator[tuple[str, str]]:
    """Run `polyglot serve` on free ports for the length of a block; yield its gRPC address and its first model."""
    command = [str(Path(sys.executable).with_name("polyglot")), "serve", *words, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield _ready(server)
        finally:
            server.send_signal(signal.SIGINT)
            rest, _ = server.communicate(timeout=60)
            print(rest, end="")
    if server.returncode:
        raise AskError(f"polyglot serve ended with status {server.returncode}")


def _ready(server: subprocess.Popen[str]) -> tuple[str, str]:
    models: list[str] = []
    for line in server.stdout or ():
        print(line, end="")
        models += SERVING.findall(line)
        if found := READY.match(line):
            return found[2], models[0]
    raise AskError(f"polyglot serve ended with status {server.wait()}")


def example(datatype: str, shape: list[int]) -> NDArray[np.generic]:
    """Return a tensor of a datatype, with 1 for every dimension of any size: a sentence, or ones."""
    sizes = [max(size, 1) for size in shape]
    if datatype == "BYTES":
        return np.full(sizes, SENTENCE, dtype=np.object_)
    return np.ones(sizes, dtype=triton_to_np_dtype(datatype))


def ask(address: str, model: str) -> Iterator[Answer]:
    """Send one example to a model and yield what it answers, each by output: once, or as often as a model streams."""
    with triton.InferenceServerClient(address) as client:
        tensors = []
        for spec in client.get_model_metadata(model).inputs:
            tensor = triton.InferInput(spec.name, [max(size, 1) for size in spec.shape], spec.datatype)
            tensor.set_data_from_numpy(example(spec.datatype, list(spec.shape)))
            tensors.append(tensor)
        if client.get_model_config(model).config.model_transaction_policy.decoupled:
            yield from streamed(client, model, tensors)
        else:
            yield by_output(client.infer(model, tensors, client_timeout=SECONDS))


def streamed(client: triton.InferenceServerClient, model: str, tensors: list[triton.InferInput]) -> Iterator[Answer]:
    """Yield each answer of a stream, until the model says that it was the last."""
    arrived: SimpleQueue[tuple[triton.InferResult, InferenceServerException | None]] = SimpleQueue()
    client.start_stream(lambda result, error: arrived.put((result, error)), stream_timeout=SECONDS)
    client.async_stream_infer(model, tensors, enable_empty_final_response=True)
    final = False
    while not final:
        result, error = arrived.get()
        if error:
            raise error
        response = result.get_response()
        final = response.parameters["triton_final_response"].bool_param
        if response.outputs:  # the end of a model's answers comes without
            yield by_output(result)


def by_output(result: triton.InferResult) -> Answer:
    """Return the tensors of an answer as lists."""
    return {output.name: result.as_numpy(output.name).tolist() for output in result.get_response().outputs}


def main() -> int:
    """Ask once; return the exit status."""
    try:
        with served(sys.argv[1:]) as (address, model):
            for answer in ask(address, model):
                print(f"{model} answered: {answer}", flush=True)
    except (AskError, InferenceServerException) as error:
        print(f"try failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

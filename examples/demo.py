"""Serve real handwritten digits through the whole chain, and read one request's trace back.

Client → (mesh) → Go gateway → (mesh, mutual TLS) → Python inference server, on a running cluster with the operator
installed: `make demo` sets all of that up and then runs this file. Ends with `demo ok: …` and status 0, or says
what is missing and ends with status 1.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).resolve().parent / "digits"
CONTEXT = os.environ.get("POLYGLOT_CONTEXT", "kind-polyglot")
NAMESPACE = "polyglot-demo"
GATEWAY = "http://127.0.0.1:8000"
JAEGER = "http://127.0.0.1:16686"
REQUESTS = 20
NEEDED_CORRECT = 18
#: The application spans and the sidecars' spans that one traced request must leave behind.
SERVICES = ("digits-gateway", f"digits-gateway.{NAMESPACE}", "digits-inference", f"digits-inference.{NAMESPACE}")


class DemoError(Exception):
    """The demo can't go on; the text says what was seen and where to look."""


@dataclass(frozen=True)
class Answer:
    """One prediction beside the label that a person gave the digit."""

    label: int
    prediction: int
    trace_id: str

    @property
    def correct(self) -> bool:
        """Whether the model read the digit as the person did."""
        return self.label == self.prediction


def kubectl(*words: str, stdin: str | None = None) -> str:
    """Run kubectl on the demo's cluster and return what it prints."""
    done = subprocess.run(
        ["kubectl", "--context", CONTEXT, *words], input=stdin, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise DemoError(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def apply() -> None:
    """Create the demo's namespace, its model and its PolyglotService, or bring them up to date."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    kubectl("apply", "-f", "-", stdin=json.dumps(namespace))
    for file in ("model.yaml", "digits.yaml"):
        print(kubectl("apply", "--namespace", NAMESPACE, "-f", str(EXAMPLE / file)), end="")


def ready_condition() -> dict[str, Any]:
    """Return the service's Ready condition, or a stand-in while the operator has not judged this generation."""
    service = json.loads(kubectl("get", "polyglotservice", "digits", "--namespace", NAMESPACE, "-o", "json"))
    for condition in service.get("status", {}).get("conditions", []):
        current = condition.get("observedGeneration") == service["metadata"]["generation"]
        if condition["type"] == "Ready" and current:
            return dict(condition)
    return {"status": "Unknown", "reason": "Pending", "message": "the operator has not reported yet"}


def wait_until_ready(within: float) -> None:
    """Wait for Ready=True and print every change of its reason on the way."""
    started = time.monotonic()
    said = ""
    while True:
        condition = ready_condition()
        elapsed = time.monotonic() - started
        line = f"Ready={condition['status']} {condition['reason']}: {condition.get('message', '')}"
        if line != said:
            print(f"{elapsed:5.1f} s  {line}")
            said = line
        if condition["status"] == "True":
            return
        if elapsed > within:
            raise DemoError(
                f"not Ready after {within:g} s ({line}); look at: kubectl --context {CONTEXT} "
                f"describe polyglotservice digits -n {NAMESPACE}"
            )
        time.sleep(1)


def wait_until_routed(within: float) -> None:
    """Wait until the gateway knows its pods, a moment after these are ready."""
    health, deadline = f"{GATEWAY}/v2/health/ready", time.monotonic() + within
    while True:
        try:
            with urllib.request.urlopen(health, timeout=5):
                return
        except OSError as error:
            if time.monotonic() > deadline:
                raise DemoError(f"{health} does not answer 200 within {within:g} s: {error}") from error
        time.sleep(0.3)


def held_out_digits() -> Sequence[dict[str, Any]]:
    """Return digits that the training never saw, each with 64 `pixels` and its `label`."""
    digits: list[dict[str, Any]] = json.loads((EXAMPLE / "held_out.json").read_text())
    return digits[:REQUESTS]


def ask(digit: dict[str, Any]) -> Answer:
    """Send one digit to the gateway under a trace of its own and return the prediction."""
    trace_id = secrets.token_hex(16)
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 64], "data": digit["pixels"]}]}
    request = urllib.request.Request(
        f"{GATEWAY}/v2/models/digits/infer",
        data=json.dumps(body).encode(),
        headers={
            "Content-Type": "application/json",
            "traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01",
            # The sidecar samples by a percentage, whatever a traceparent says; this header makes it trace the request.
            # https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers#x-client-trace-id
            "x-client-trace-id": trace_id,
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            outputs = {output["name"]: output["data"] for output in json.load(reply)["outputs"]}
    except urllib.error.HTTPError as error:
        raise DemoError(f"{request.full_url} answered {error.code}: {error.read().decode()}") from error
    except OSError as error:
        raise DemoError(f"{request.full_url} can't be reached: {error}") from error
    return Answer(label=digit["label"], prediction=outputs["label"][0], trace_id=trace_id)


def services_in(trace_id: str) -> set[str]:
    """Return the names of the services that have spans in a trace, as Jaeger has it now."""
    try:
        with urllib.request.urlopen(f"{JAEGER}/api/traces/{trace_id}", timeout=10) as reply:
            traces = json.load(reply)["data"]
    except urllib.error.HTTPError as error:
        if error.code == 404:  # no span of it has arrived yet
            return set()
        raise DemoError(f"Jaeger answered {error.code}") from error
    except OSError as error:
        raise DemoError(f"Jaeger at {JAEGER} can't be reached: {error}") from error
    return {process["serviceName"] for trace in traces for process in trace["processes"].values()}


def wait_for_trace(trace_id: str, within: float) -> list[str]:
    """Wait until gateway, sidecars and Python have reported their spans; return the services in the trace."""
    deadline = time.monotonic() + within
    found: set[str] = set()
    while time.monotonic() < deadline:
        found = services_in(trace_id)
        if found.issuperset(SERVICES):
            return sorted(found)
        time.sleep(1)
    missing = ", ".join(sorted(set(SERVICES) - found))
    raise DemoError(f"trace {trace_id} has no span of {missing} after {within:g} s; see {JAEGER}/trace/{trace_id}")


def main() -> int:
    """Run the demo; return 0 when enough digits were read and the trace is whole."""
    apply()
    wait_until_ready(within=180)
    wait_until_routed(within=15)
    answers = [ask(digit) for digit in held_out_digits()]
    for number, answer in enumerate(answers, start=1):
        mark = "" if answer.correct else "   ← wrong"
        print(f"digit {number:2}: predicted {answer.prediction}, labelled {answer.label}{mark}")
    shown = answers[-1].trace_id
    print(f"POST {GATEWAY}/v2/models/digits/infer   trace {JAEGER}/trace/{shown}")
    services = wait_for_trace(shown, within=60)
    correct = sum(answer.correct for answer in answers)
    if correct < NEEDED_CORRECT:
        raise DemoError(f"{correct}/{len(answers)} correct, at least {NEEDED_CORRECT} needed")
    print(f"demo ok: {correct}/{len(answers)} correct, trace {shown}, services: {', '.join(services)}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DemoError as failure:
        print(f"demo failed: {failure}", file=sys.stderr)
        sys.exit(1)

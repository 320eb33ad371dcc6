"""`make conformance`: every check against every server, one after the other; writes docs/reference/conformance.md.

Ends with 1 when anything ended otherwise than expectations.yaml says. What is found of MLServer and KServe is reported,
not judged.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from polyglot_platform.environments import environment
from polyglot_platform.triton import Triton
from tests.component.processes import ROOT, build_gateway
from tests.conformance import checks
from tests.conformance.expectations import expected_of, read, surprise, unused
from tests.conformance.oracle import TritonServer
from tests.conformance.page import Outcome, conformance_page
from tests.conformance.peers import KServe, MLServer
from tests.conformance.suite import CHECKS, failure_of
from tests.conformance.targets import Polyglot, Target, startup_models

PAGE = ROOT / "docs" / "reference" / "conformance.md"
JUDGED = ("gateway", "server", "triton")

TARGETS: dict[str, Callable[[Path], Target]] = {
    "gateway": lambda scratch: Polyglot("gateway", build_gateway(scratch)),
    "server": lambda _: Polyglot("server", None),
    "triton": lambda _: TritonServer(Triton.installed()),
    "mlserver": lambda _: MLServer(environment("mlserver")),
    "kserve": lambda _: KServe(environment("kserve")),
}


def outcomes_of(target: Target, folder: Path) -> Iterator[Outcome]:
    """Run every check against one server, in the order of the checklist."""
    entries = read()
    with target.launch(folder, startup_models()) as instance:
        for checked in checks.in_order():
            if checked.over_http and not instance.rest:
                continue
            yield Outcome(
                target.name, checked, failure_of(checked, instance), expected_of(target.name, checked, entries)
            )
            if instance.ended():
                raise RuntimeError(f"{target.name} ended during {checked.name}[{checked.client}]")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"servers, of {', '.join(TARGETS)}; all, and the page, without any")
    chosen = parser.parse_args(arguments).targets
    outcomes: list[Outcome] = []
    surprises = [f"{PAGE.name}: no check is {name}" for name in unused(read(), CHECKS)]
    for name in chosen or TARGETS:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            found = list(outcomes_of(TARGETS[name](Path(scratch)), Path(scratch) / "models"))
        passed = sum(outcome.failure is None for outcome in found)
        print(f"{name}: {passed} of {len(found)} checks pass, {time.monotonic() - started:.0f} s", flush=True)
        outcomes += found
        if name in JUDGED:
            surprises += _surprises(found)
    if not chosen:
        PAGE.write_text(conformance_page(outcomes))
    for line in surprises:
        print(line, file=sys.stderr)
    return 1 if surprises else 0


def _surprises(outcomes: Sequence[Outcome]) -> Iterator[str]:
    for outcome in outcomes:
        wrong = surprise(outcome.failure, outcome.expected)
        if wrong:
            yield f"{outcome.target}: {outcome.check.name}[{outcome.check.client}]: {wrong}"


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    # An ordinary exit would wait for the threads of clients that never end; see `failure_of`.
    os._exit(status)

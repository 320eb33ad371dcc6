"""The demo itself, twice: the second run finds everything in place."""

import os
import re
import subprocess
import sys

from tests.e2e.services import EXAMPLES, Service

OK = re.compile(r"demo ok: (\d+)/20 correct, trace [0-9a-f]{32}, services: (.+)")


def test_the_demo_ends_with_its_ok_line(digits: Service, context: str) -> None:
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / "demo.py")],
            env={**os.environ, "POLYGLOT_CONTEXT": context},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        last = OK.fullmatch(done.stdout.splitlines()[-1])
        assert last
        assert int(last[1]) >= 18
        sidecars = {f"{digits.name}-{component}.{digits.namespace}" for component in ("gateway", "inference")}
        assert set(last[2].split(", ")) == sidecars | {"digits-gateway", "digits-inference"}
        assert len([line for line in done.stdout.splitlines() if line.startswith("digit ")]) == 20

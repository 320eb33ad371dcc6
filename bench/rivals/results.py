"""The raw results of one run as a file."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.command import run
from bench.rivals.h2load import Load
from bench.rivals.measure import Failure, Measurement
from bench.rivals.paced import Paced
from bench.rivals.targets import Pair
from bench.rivals.workloads import ROOT

FOLDER = ROOT / "bench" / "results"


@dataclass(frozen=True)
class Results:
    """All of a run, with what one needs to know to read it."""

    date: str
    commit: str
    quick: bool
    rounds: int
    seconds: float
    machine: Mapping[str, Any]
    #: Load averages of the machine at the begin and at the end: what else ran besides.
    load_averages: Sequence[float]
    peers: Sequence[Mapping[str, Any]]
    workloads: Mapping[str, str]
    measurements: Sequence[Measurement]
    pairs: Sequence[Pair]
    paced: Sequence[Paced]
    failures: Sequence[Failure]

    def write(self) -> Path:
        """Write the file and return its path."""
        FOLDER.mkdir(exist_ok=True)
        kind = "rivals-quick" if self.quick else "rivals"
        path = FOLDER / f"{self.date[:10]}-{self.commit}-{kind}.json"
        path.write_text(json.dumps({"benchmark": "rivals", **asdict(self)}, indent=1) + "\n")
        return path

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read a file."""
        content = json.loads(path.read_text())
        del content["benchmark"]
        content["measurements"] = [_measurement(each) for each in content["measurements"]]
        # Results from before there were pairs have none.
        content["pairs"] = [
            Pair(each["target"], _measurement(each["ours"]), _measurement(each["rival"]))
            for each in content.get("pairs", [])
        ]
        content["paced"] = [Paced(**each) for each in content["paced"]]
        content["failures"] = [Failure(**each) for each in content["failures"]]
        return cls(**content)


def _measurement(content: Mapping[str, Any]) -> Measurement:
    return Measurement(**{**content, "load": Load(**content["load"])})


def now() -> str:
    """Return the date as the results have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def commit() -> str:
    """Return the commit that is measured."""
    return run("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*").strip()


def machine() -> dict[str, Any]:
    """Return what the machine is, in words that fit any."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpus": os.cpu_count(),
        "cpu": models[0] if models else platform.machine(),
        "memoryGiB": round(memory / 2**30),
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
    }

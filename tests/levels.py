"""Count what each test level ran, and refuse a level that skipped anything or ran nothing.

`levels.py go REPORT MODULE` runs a Go module's tests and keeps their JSON events; pytest keeps JUnit files of its own.
`levels.py summary DIR` reads both, and checks that every test that docs/acceptance.md names has run. A report is called
`<level>-<name>.xml` or `<level>-<name>.json`.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

LEVELS = ("unit", "component", "cluster")
ACCEPTANCE = Path(__file__).resolve().parents[1] / "docs" / "acceptance.md"


def run_go(report: Path, module: Path) -> int:
    """Run the tests of one Go module under the race detector; print packages and failures, keep all events.

    Returns go's exit status.
    """
    report.parent.mkdir(parents=True, exist_ok=True)
    command = ["go", "test", "-race", "-json", "./..."]
    output: dict[tuple[str, str], list[str]] = {}
    with subprocess.Popen(command, cwd=module, stdout=subprocess.PIPE, text=True) as process, report.open("w") as kept:
        if process.stdout is None:
            raise RuntimeError("go test started without a pipe for its events")
        for line in process.stdout:
            kept.write(line)
            event = json.loads(line)
            key = (event.get("Package", ""), event.get("Test", ""))
            match event["Action"]:
                case "output" | "build-output":
                    output.setdefault(key, []).append(event["Output"])
                case "fail":
                    print("".join(output.get(key, [])), end="")
                case "pass" if not key[1]:
                    print(f"ok    {key[0]}  {event['Elapsed']:.1f}s")
        status = process.wait()
    if status and not any(key[1] for key in output):
        print("".join(part for parts in output.values() for part in parts), end="")
    return status


@dataclass
class Results:
    """How the tests of some reports ended, and what they are called (without parameters)."""

    counts: Counter[str] = field(default_factory=Counter)
    names: set[str] = field(default_factory=set)

    def add(self, outcome: str, name: str) -> None:
        """Take in one finished test."""
        self.counts[outcome] += 1
        self.names.add(re.split(r"[\[/]", name)[0])


def read_junit(report: Path, results: Results) -> None:
    """Take in a JUnit file's test cases as passed, failed or skipped (pytest writes xfail as skipped)."""
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - written by our own pytest run
        outcomes = {child.tag for child in case}
        if outcomes & {"failure", "error"}:
            outcome = "failed"
        elif "skipped" in outcomes:
            outcome = "skipped"
        else:
            outcome = "passed"
        results.add(outcome, case.get("name", ""))


def read_go(report: Path, results: Results) -> None:
    """Take in the finished tests of a `go test -json` stream; a package that failed to build counts as failed."""
    names = {"pass": "passed", "fail": "failed", "skip": "skipped"}
    for line in report.read_text().splitlines():
        event = json.loads(line)
        finished = event["Action"] in names
        if finished and (event.get("Test") or (event["Action"] == "fail" and event.get("FailedBuild"))):
            results.add(names[event["Action"]], event.get("Test", ""))


def promised(acceptance: Path) -> set[str]:
    """Return the names of the tests that the acceptance page promises."""
    return set(re.findall(r"`((?:test_|Test|Fuzz)\w+)`", acceptance.read_text()))


def summarise(directory: Path) -> int:
    """Print the counts of every level.

    Returns 1 if any test failed or was skipped, a level ran nothing, or a promised test did not run.
    """
    total: Counter[str] = Counter()
    ran: set[str] = set()
    healthy = True
    for level in LEVELS:
        results = Results()
        for report in sorted(directory.glob(f"{level}-*")):
            read = read_junit if report.suffix == ".xml" else read_go
            read(report, results)
        counts = results.counts
        ran |= results.names
        print(f"{level:>10}: {counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
        if not counts["passed"] or counts["failed"] or counts["skipped"]:
            healthy = False
        total += counts
    print(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")
    if not healthy:
        print("every level must run tests, and none may fail, be skipped or be expected to fail", file=sys.stderr)
    missing = sorted(promised(ACCEPTANCE) - ran)
    if missing:
        print(f"promised in {ACCEPTANCE.name} but not run: {', '.join(missing)}", file=sys.stderr)
    return 0 if healthy and not missing else 1


def main() -> int:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    go = commands.add_parser("go", help="run the tests of a Go module and keep their events")
    go.add_argument("report", type=Path)
    go.add_argument("module", type=Path)
    summary = commands.add_parser("summary", help="print the counts of every level")
    summary.add_argument("directory", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "go":
        return run_go(arguments.report, arguments.module)
    return summarise(arguments.directory)


if __name__ == "__main__":
    sys.exit(main())

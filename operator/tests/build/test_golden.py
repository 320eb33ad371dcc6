"""Each folder of golden/ holds a service, perhaps facts, and the children that `polyglot render` makes of them."""

from pathlib import Path

import pytest

from polyglot_operator import cli

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = sorted(path.parent for path in GOLDEN.glob("*/service.yaml"))


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_children_are_as_golden(case: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    facts = case / "facts.yaml"
    words = ["render", str(case / "service.yaml"), *(["--facts", str(facts)] if facts.exists() else [])]
    assert cli.main(words) == 0
    rendered = capsys.readouterr().out
    expected = case / "children.yaml"
    if request.config.getoption("--update-golden"):
        expected.write_text(rendered)
    assert rendered == expected.read_text(), "run `make golden` if this change is wanted, and review the diff"

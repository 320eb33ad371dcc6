"""The generated files of the repository are those that the model gives, and the conditions are all documented."""

from pathlib import Path

import pytest
import yaml

from polyglot_operator.api import generate
from polyglot_operator.api.conditions import MEANINGS, REASONS, ConditionType, Reason
from polyglot_operator.api.crd import custom_resource_definition

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("path", generate.files())
def test_the_generated_file_is_up_to_date(path: str) -> None:
    assert (ROOT / path).read_text() == generate.files()[path], "run `make generate`"


def test_generating_writes_every_file(tmp_path: Path) -> None:
    generate.main(tmp_path)
    assert yaml.safe_load((tmp_path / "crds/polyglot.dev_polyglotservices.yaml").read_text()) == (
        custom_resource_definition()
    )


def test_a_chart_template_that_helm_would_evaluate_is_refused() -> None:
    plain = "metadata:\n  name: polyglotservices.polyglot.dev\nspec: '{{ .Values.oops }}'\n"
    with pytest.raises(ValueError, match="word it differently"):
        generate.chart_template(plain)


def test_every_reason_and_condition_is_documented() -> None:
    assert {row.reason for row in REASONS} == set(Reason)
    assert {row.type for row in REASONS} == set(ConditionType) == set(MEANINGS)


def test_a_reason_means_one_thing() -> None:
    keys = [(row.type, row.reason) for row in REASONS]
    assert len(set(keys)) == len(keys)


def test_every_failure_says_what_to_do() -> None:
    for row in REASONS:
        assert row.meaning.endswith("."), row
        assert row.remedy.endswith("."), row
        assert row.status == "True" or row.remedy != "Nothing.", row

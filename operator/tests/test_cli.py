"""The command: what it prints, what it refuses, and its exit status."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from polyglot_operator import cli
from polyglot_operator.api.crd import custom_resource_definition
from polyglot_operator.api.model import parse
from polyglot_operator.build import canonical, children

GOLDEN = Path(__file__).parent / "golden"
MINIMAL = GOLDEN / "minimal" / "service.yaml"


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that must end with status 1 and print nothing but an error; return it."""
    assert cli.main(words) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err


def test_json_output_holds_the_exact_bodies_that_are_applied(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["render", str(MINIMAL), "--output", "json"]) == 0
    service = parse(yaml.safe_load(MINIMAL.read_text()))
    applied = [canonical(child) for child in children(service, cli.facts_for(service, {}, "facts"))]
    assert capsys.readouterr().out.splitlines() == applied


def test_yaml_and_json_output_hold_the_same_objects(capsys: pytest.CaptureFixture[str]) -> None:
    service = str(GOLDEN / "everything" / "service.yaml")
    cli.main(["render", service])
    as_yaml = list(yaml.safe_load_all(capsys.readouterr().out))
    cli.main(["render", service, "--output", "json"])
    as_json = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert as_yaml == as_json


def test_services_beside_other_objects_are_rendered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "both.yaml"
    other = MINIMAL.read_text().replace("name: digits, namespace", "name: other, namespace")
    source.write_text(f"kind: ConfigMap\napiVersion: v1\n---\n{MINIMAL.read_text()}---\n{other}---\n")
    assert cli.main(["render", str(source)]) == 0
    rendered = list(yaml.safe_load_all(capsys.readouterr().out))
    services = {child["metadata"]["labels"]["polyglot.dev/service"] for child in rendered}
    assert services == {"digits", "other"}


def test_an_invalid_service_is_refused_with_its_fields(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "bad.yaml"
    source.write_text(MINIMAL.read_text().replace("ONNX", "TF"))
    assert "bad.yaml: document 1: no valid PolyglotService:\n  spec.models[0].format: " in refused(
        capsys, "render", str(source)
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: [", "no YAML"),
        ("- 1", "document 1: expected an object, found list"),
        ("kind: ConfigMap", "holds no PolyglotService of polyglot.dev/v1alpha1"),
        ("", "holds no PolyglotService"),
        ("{kind: PolyglotService, apiVersion: polyglot.dev/v2}", "apiVersion: expected polyglot.dev/v1alpha1, found"),
    ],
)
def test_a_file_that_can_not_be_used_is_refused(
    text: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "input.yaml"
    source.write_text(text)
    assert complaint in refused(capsys, "render", str(source))


def test_a_missing_file_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere.yaml: No such file" in refused(capsys, "render", "nowhere.yaml")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("- 1", "facts are one object"),
        ("mesh: Sometimes", "mesh: Input should be 'None', 'Permissive', 'Mutual', 'Strict' or 'Leaving'"),
        ("colour: red", "colour: Unexpected keyword argument"),
        ("images: {gateway: [1]}", "images.gateway: Input should be a valid string"),
        ("templateRevision: 99", "upgrade the operator"),
    ],
)
def test_facts_that_can_not_be_used_are_refused(
    text: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = tmp_path / "facts.yaml"
    facts.write_text(text)
    assert complaint in refused(capsys, "render", str(MINIMAL), "--facts", str(facts))


def test_a_service_that_requires_istio_is_refused_without_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = tmp_path / "facts.yaml"
    facts.write_text("capabilities: {istio: null}")
    service = tmp_path / "service.yaml"
    service.write_text(MINIMAL.read_text() + "  mesh: {mode: Istio}\n")
    assert "spec.mesh.mode is Istio" in refused(capsys, "render", str(service), "--facts", str(facts))


def test_auto_runs_plain_without_istio(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = tmp_path / "facts.yaml"
    facts.write_text("capabilities: {istio: null}")
    assert cli.main(["render", str(MINIMAL), "--facts", str(facts)]) == 0
    assert "istio.io/v1" not in capsys.readouterr().out


def test_a_service_is_read_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(MINIMAL.read_text()))
    assert cli.main(["render", "-"]) == 0
    from_stdin = capsys.readouterr().out
    cli.main(["render", str(MINIMAL)])
    assert from_stdin == capsys.readouterr().out


def test_a_reader_that_has_seen_enough_gets_no_traceback() -> None:
    command = f"{sys.executable} -m polyglot_operator.cli render {MINIMAL} | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("---\n", "")


def test_schema_prints_the_crd(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == custom_resource_definition()


def test_a_wrong_command_line_ends_with_status_2() -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["fly"])
    assert caught.value.code == 2


def test_running_without_settings_names_the_variables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("POLYGLOT_GATEWAY_IMAGE", raising=False)
    monkeypatch.delenv("POLYGLOT_INFERENCE_IMAGE", raising=False)
    assert "POLYGLOT_GATEWAY_IMAGE: Field required" in refused(capsys, "run")

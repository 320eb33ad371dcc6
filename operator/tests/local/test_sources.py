"""Where a laptop finds the files of models that a cluster would mount."""

import base64
from pathlib import Path
from typing import Any

import pytest

from polyglot_operator.api.model import parse
from polyglot_operator.local import sources
from polyglot_operator.manifests import InputError

CONFIG_MAP = {"configMap": {"name": "m-files"}}
MANIFEST = """apiVersion: v1
kind: ConfigMap
metadata: {name: m-files}
data: {model.py: "class Model: ..."}
binaryData: {weights: AAECAw==}
"""
GENERATOR = """configMapGenerator:
- name: other
- name: m-files
  files: [model.py, renamed=elsewhere/table.csv]
  literals: [language=de=AT]
"""


def found(folder: Path, source: dict[str, Any] = CONFIG_MAP, **given: str) -> Path:
    """Return the folder of a model `m` that a file in `folder` declares."""
    service = parse(
        {"metadata": {"name": "s"}, "spec": {"models": [{"name": "m", "format": "Python", "source": source}]}}
    )
    models = {name: Path(path) for name, path in given.items()}
    return sources.folders(service, folder / "service.yaml", models, folder / "scratch")["m"]


def test_files_of_a_config_map_manifest_are_gathered(tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_text(MANIFEST)
    folder = found(tmp_path)
    assert (folder / "model.py").read_text() == "class Model: ..."
    assert (folder / "weights").read_bytes() == base64.b64decode("AAECAw==")


def test_files_of_a_kustomization_stay_where_they_are_edited(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text(GENERATOR)
    (tmp_path / "model.py").write_text("before")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "table.csv").write_text("1,2")
    folder = found(tmp_path)
    (tmp_path / "model.py").write_text("after")
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "model.py": "after",
        "renamed": "1,2",
        "language": "de=AT",
    }


def test_a_folder_named_as_the_config_map_will_do(tmp_path: Path) -> None:
    (tmp_path / "m-files").mkdir()
    assert found(tmp_path) == tmp_path / "m-files"


def test_a_given_folder_wins_and_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.yaml").write_text(MANIFEST)
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert found(tmp_path, m="mine") == tmp_path / "mine"


def test_other_files_beside_the_service_need_not_be_yaml(tmp_path: Path) -> None:
    (tmp_path / "a-template.yaml").write_text("{{ if .Values.on }}")
    (tmp_path / "model.yaml").write_text(MANIFEST)
    assert (found(tmp_path) / "model.py").exists()


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (CONFIG_MAP, "ConfigMap m-files is neither in a manifest, a kustomization nor a folder"),
        ({"image": {"reference": "r:1"}}, "model m comes from an image, which only a cluster mounts"),
        ({"persistentVolumeClaim": {"claimName": "c"}}, "model m comes from a PersistentVolumeClaim"),
    ],
)
def test_a_source_that_is_not_here_names_the_option(source: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=complaint) as caught:
        found(tmp_path, source)
    assert str(caught.value).endswith("name the model's folder on this machine: --model m=PATH")


def test_a_given_folder_must_exist_and_belong_to_a_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        found(tmp_path, m=str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="serves no model n, only m"):
        found(tmp_path, n=str(tmp_path))


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("model.yaml", MANIFEST.replace("AAECAw==", "AAECAw"), "model.yaml: binaryData of ConfigMap m-files"),
        ("model.yaml", MANIFEST.replace("model.py:", "../model.py:"), "ConfigMap key '../model.py'"),
        ("kustomization.yaml", GENERATOR, "configMapGenerator m-files: no file .*model.py"),
        ("model.yaml", "kind: [m-files", "model.yaml: no YAML"),
    ],
)
def test_broken_files_are_named(name: str, text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=complaint):
        found(tmp_path)

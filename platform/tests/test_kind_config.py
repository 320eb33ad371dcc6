"""One configuration for everybody; building from source only adds to it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from polyglot_platform import kind_config, pins
from polyglot_platform.cluster import ClusterName

FILE = Path(__file__).resolve().parents[2] / "kind-config.yaml"


@pytest.fixture
def config() -> dict[str, Any]:
    return kind_config.load(FILE)


def test_every_published_port_is_bound_to_this_host_alone(config: dict[str, Any]) -> None:
    assert kind_config.host_ports(config) == [("127.0.0.1", 8000), ("127.0.0.1", 8001), ("127.0.0.1", 16686)]


def test_the_plain_file_suits_upstreams_node_image(config: dict[str, Any]) -> None:
    text = FILE.read_text()
    assert "cgroupDriver" not in text
    assert "imageTag" not in text
    assert all("image" not in node for node in config["nodes"])


def test_source_adds_patches_and_changes_nothing_else(config: dict[str, Any]) -> None:
    derived = kind_config.for_source(config)
    added = [yaml.safe_load(patch) for patch in derived["kubeadmConfigPatches"][len(config["kubeadmConfigPatches"]) :]]
    assert [patch["kind"] for patch in added] == ["KubeletConfiguration", "ClusterConfiguration"]
    assert added[1]["dns"]["imageTag"] == pins.COREDNS
    assert derived["kubeadmConfigPatches"][: len(config["kubeadmConfigPatches"])] == config["kubeadmConfigPatches"]
    assert {key: value for key, value in derived.items() if key != "kubeadmConfigPatches"} == {
        key: value for key, value in config.items() if key != "kubeadmConfigPatches"
    }


def test_the_bare_cluster_differs_in_its_name_and_publishes_nothing(config: dict[str, Any]) -> None:
    derived = kind_config.for_bare(config, "other")
    assert derived["name"] == "other"
    assert kind_config.host_ports(derived) == []
    assert {key: value for key, value in derived.items() if key not in {"name", "nodes"}} == {
        key: value for key, value in config.items() if key not in {"name", "nodes"}
    }
    (node,), (bare,) = config["nodes"], derived["nodes"]
    assert bare == {key: value for key, value in node.items() if key != "extraPortMappings"}


def test_the_main_cluster_is_the_one_of_the_file(config: dict[str, Any]) -> None:
    assert config["name"] == ClusterName.MAIN


def test_a_file_without_a_mapping_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kind.yaml").write_text("- nonsense\n")
    with pytest.raises(TypeError, match="no YAML mapping"):
        kind_config.load(tmp_path / "kind.yaml")

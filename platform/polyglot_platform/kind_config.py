"""The one kind-config.yaml, and what differs in the bare cluster and where images are built from source."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from polyglot_platform import pins
from polyglot_platform.recipes import ETCD_TAG

SOURCE_PATCHES: tuple[Mapping[str, object], ...] = (
    # Our node's containerd manages cgroups itself: systemd in the container sees only a part of a cgroup v1 host.
    {"kind": "KubeletConfiguration", "cgroupDriver": "cgroupfs"},
    # The versions we build are newer than kubeadm's defaults.
    {
        "kind": "ClusterConfiguration",
        "dns": {"imageTag": pins.COREDNS},
        "etcd": {"local": {"imageTag": ETCD_TAG}},
    },
)


def load(path: Path) -> dict[str, Any]:
    """The configuration as a user of `kind create cluster --config` gets it."""
    config = yaml.safe_load(path.read_text())
    if not isinstance(config, dict):
        raise TypeError(f"{path} holds no YAML mapping")
    return config


def for_source(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same configuration for the node image that we build."""
    patches = [*config.get("kubeadmConfigPatches", []), *(yaml.safe_dump(dict(patch)) for patch in SOURCE_PATCHES)]
    return {**config, "kubeadmConfigPatches": patches}


def for_bare(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The same configuration under another name and without published ports: the main cluster has those."""
    nodes = [{key: value for key, value in node.items() if key != "extraPortMappings"} for node in config["nodes"]]
    return {**config, "name": name, "nodes": nodes}


def host_ports(config: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Addresses and ports of this host that the cluster will occupy."""
    mappings = [mapping for node in config["nodes"] for mapping in node.get("extraPortMappings", [])]
    return [(mapping["listenAddress"], mapping["hostPort"]) for mapping in mappings]

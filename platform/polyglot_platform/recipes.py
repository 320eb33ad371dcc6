"""The table of images built from source: which folder, which files, which base."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from polyglot_platform import components as c
from polyglot_platform import pins


@dataclass(frozen=True)
class BaseImage:
    """A Debian root file system as an image."""

    name: str
    rootfs: c.Rootfs
    tag: str = ""
    """A fixed name beside the hashed one, for Dockerfiles outside the platform."""


@dataclass(frozen=True)
class Recipe:
    """An image: files of `folder` (`own_files`, a pattern), files out of components, base images as build arguments."""

    name: str
    folder: str
    files: tuple[tuple[c.Component, str], ...] = ()
    bases: Mapping[str, "BaseImage | Recipe"] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)
    own_files: str = "Dockerfile"
    tag: str = ""


DEBIAN = BaseImage("debian", c.DEBIAN_NODE)
PYTHON = BaseImage("python", c.DEBIAN_PYTHON, tag="3.11")
STATIC = Recipe("static", "base/static", bases={"PYTHON": PYTHON}, tag="latest")

KUBERNETES = Recipe("kubernetes", "node/images/kubernetes", ((c.KUBERNETES, "kubernetes"),), {"DEBIAN": DEBIAN})
COREDNS = Recipe("coredns", "node/images/coredns", ((c.COREDNS, "coredns"),), {"STATIC": STATIC})
ETCD = Recipe("etcd", "node/images/etcd", ((c.ETCD, "etcd"),), {"STATIC": STATIC})
PAUSE = Recipe("pause", "node/images/pause", ((c.PAUSE, "pause"),))

PILOT = Recipe("pilot", "addons/istio/pilot", ((c.ISTIO, "pilot-discovery"),), {"STATIC": STATIC})
PROXY = Recipe(
    "proxyv2",
    "addons/istio/proxyv2",
    ((c.ISTIO, "pilot-agent"), (c.ISTIO, "tools/packaging/common/envoy_bootstrap.json"), (c.ENVOY, "envoy")),
    {"DEBIAN": DEBIAN},
)
JAEGER = Recipe("jaeger", "addons/jaeger", ((c.JAEGER, "jaeger"),), {"STATIC": STATIC})
METRICS_SERVER = Recipe(
    "metrics-server", "addons/metrics-server", ((c.METRICS_SERVER, "metrics-server"),), {"STATIC": STATIC}
)

NODE_BASE = Recipe(
    "node-base",
    "node",
    (
        (c.KUBERNETES, "kubernetes"),
        *((c.CONTAINERD, name) for name in ("containerd", "containerd-shim-runc-v2", "ctr")),
        *((c.CNI_PLUGINS, name) for name in ("bridge", "loopback", "portmap", "host-local")),
        (c.CRICTL, "crictl"),
    ),
    {"DEBIAN": DEBIAN},
    {"KUBERNETES_VERSION": pins.KUBERNETES},
    own_files="*",
)

_KUBERNETES_COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")

ETCD_TAG = f"{pins.ETCD}-0"

CONTROL_PLANE: Mapping[str, Recipe] = {
    **{f"registry.k8s.io/{name}:{pins.KUBERNETES}": KUBERNETES for name in _KUBERNETES_COMPONENTS},
    f"registry.k8s.io/coredns/coredns:{pins.COREDNS}": COREDNS,
    f"registry.k8s.io/etcd:{ETCD_TAG}": ETCD,
    f"registry.k8s.io/pause:{pins.PAUSE}": PAUSE,
}
"""The names under which kubeadm asks for images, and the images that answer to them."""

ADDONS = (PILOT, PROXY, JAEGER, METRICS_SERVER)
"""Preloaded in the node image, so that a new cluster has nothing to load."""

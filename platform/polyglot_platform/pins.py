"""Every version of the platform, in one place."""

KIND = "v0.32.0"
KUBERNETES = "v1.36.3"
CONTAINERD = "v2.3.4"
CNI_PLUGINS = "v1.9.1"
CRICTL = "v1.36.0"  # pinned by node/crictl/go.mod
ETCD = "3.6.14"  # pinned by node/etcd/go.mod
COREDNS = "v1.14.7"
PAUSE = "3.10.2"  # the name kubeadm expects; the program is node/pause

HELM = "v4.2.4"
GOLANGCI_LINT = "v2.15.0"
KWOK = "v0.8.0"

ISTIO = "1.31.0"  # the commit is pinned by addons/istio/go.mod
ENVOY = "1.40.0"  # pinned by addons/istio/envoy.lock
JAEGER = "2.13.0"  # released as module version v1.76.0, pinned by addons/jaeger/go.mod
METRICS_SERVER = "v0.9.0"

DEBIAN = "bookworm"

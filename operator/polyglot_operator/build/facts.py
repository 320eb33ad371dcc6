"""What the builders must know besides the spec. The loop gathers it; `polyglot render --facts` reads it from a file."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Final

from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

# Revision of the pod templates, and of the settings they mount, that new Deployments get. A Deployment keeps the
# revision it was made with, so that an operator upgrade restarts no pod: raise it with every change of a template, and
# keep building the old ones.
TEMPLATE_REVISION: Final = 1

# For facts that are read from a file: written like a resource's fields, and nothing unknown.
_FILE = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class MeshPhase(StrEnum):
    """Where a service stands between plain and strict mutual TLS.

    A new service starts at NONE or STRICT. A running one enters the mesh by PERMISSIVE → (every pod has a sidecar) →
    MUTUAL → STRICT, and leaves it by MUTUAL → PERMISSIVE → LEAVING → (no pod has a sidecar) → NONE.
    """

    NONE = "None"  # no sidecars, no mesh objects
    PERMISSIVE = "Permissive"  # sidecars wanted; plaintext and mutual TLS are both accepted, plaintext is sent
    MUTUAL = "Mutual"  # sidecars; both are accepted, mutual TLS is sent
    STRICT = "Strict"  # sidecars; only mutual TLS, and only from the gateway, reaches inference
    LEAVING = "Leaving"  # sidecars unwanted; those still there accept and send plaintext

    @property
    def sidecars(self) -> bool:
        """Whether new pods get a sidecar."""
        return self in {MeshPhase.PERMISSIVE, MeshPhase.MUTUAL, MeshPhase.STRICT}

    @property
    def mutual_tls(self) -> bool:
        """Whether the gateway's sidecar sends mutual TLS."""
        return self in {MeshPhase.MUTUAL, MeshPhase.STRICT}

    @property
    def mode(self) -> str:
        """The decision that is pinned on the Deployments: `Istio` or `None`."""
        return "Istio" if self.sidecars else "None"


@dataclass(frozen=True, slots=True)
class Images:
    """Images of components whose spec names none."""

    __pydantic_config__: ClassVar[ConfigDict] = _FILE

    gateway: str
    inference: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the cluster can do.

    `istio` holds the served API versions of Istio's groups, such as `security.istio.io/v1`; None without Istio.
    `tracing_provider` tells whether the mesh has the extension provider `otel`; None when that can't be read.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _FILE

    istio: tuple[str, ...] | None = None
    tracing_provider: bool | None = None
    metrics_api: bool = False
    image_volumes: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything outside the spec that a child depends on.

    `short_of_devices` is how many inference pods wait for accelerators that no node has left.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _FILE

    owner_uid: str
    images: Images
    capabilities: Capabilities = Capabilities()
    mesh: MeshPhase = MeshPhase.NONE
    cluster_domain: str = "cluster.local"
    template_revision: int = TEMPLATE_REVISION
    short_of_devices: int = 0

"""Who may make which call: the settings `administration`, held against every call.

The groups of calls and the name of the metadata are those of Triton's option `--grpc-restricted-protocol`; source:
triton-inference-server/server, docs/customization_guide/inference_protocols.md, "Limit Endpoint Access".
grpc.health.v1 belongs to no group: the kubelet sends no header.
"""

import hmac
from collections.abc import Callable, Mapping
from typing import Final

from polyglot_inference.errors import PermissionDeniedError
from polyglot_inference.settings import AdministrationSettings, Api, Restriction

HEADER_PREFIX: Final = "triton-grpc-protocol-"

APIS: Final[Mapping[str, Api]] = {
    "ServerLive": "health",
    "ServerReady": "health",
    "ModelReady": "health",
    "ServerMetadata": "metadata",
    "ModelMetadata": "metadata",
    "ModelInfer": "inference",
    "ModelStreamInfer": "inference",
    "ModelConfig": "model-config",
    "ModelStatistics": "statistics",
    "RepositoryIndex": "model-repository",
    "RepositoryModelLoad": "model-repository",
    "RepositoryModelUnload": "model-repository",
    "SystemSharedMemoryStatus": "shared-memory",
    "SystemSharedMemoryRegister": "shared-memory",
    "SystemSharedMemoryUnregister": "shared-memory",
    "CudaSharedMemoryStatus": "shared-memory",
    "CudaSharedMemoryRegister": "shared-memory",
    "CudaSharedMemoryUnregister": "shared-memory",
    "TraceSetting": "trace",
    "LogSettings": "logging",
}
"""The group of every call."""

Guard = Callable[[Mapping[str, str]], None]
"""Raises PermissionDeniedError for a call with this metadata."""


class Access:
    """What callers may do.

    Parameters
    ----------
    settings
        Restricted groups, and whether callers may change anything.
    """

    def __init__(self, settings: AdministrationSettings) -> None:
        self._changes_allowed = settings.mode == "Full"
        self._guards = {
            api: _guard(api, restriction) for restriction in settings.restricted for api in restriction.apis
        }

    def guard(self, rpc: str) -> Guard | None:
        """What a call of this RPC must pass; None for one that is open to all."""
        return self._guards.get(APIS[rpc])

    def require_changes_allowed(self, change: str) -> None:
        """Raise PermissionDeniedError unless callers may change what the server does."""
        if not self._changes_allowed:
            raise PermissionDeniedError(
                f"{change} is refused: the server's setting administration.mode is ReadOnly; it must be Full"
            )


def _guard(api: Api, restriction: Restriction) -> Guard:
    key, value = f"{HEADER_PREFIX}{restriction.header}", restriction.value.get_secret_value().encode()

    def check(metadata: Mapping[str, str]) -> None:
        # In constant time: the answer's delay must not tell how much of a guess is right.
        if not hmac.compare_digest(metadata.get(key, "").encode(), value):
            raise PermissionDeniedError(
                f"the {api} calls are restricted here: they need the metadata {key!r} with the value that the server's"
                " setting administration.restricted has"
            )

    return check

"""Whether this cluster can honour a spec, before anything is applied."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from polyglot_operator.api.conditions import Reason
from polyglot_operator.api.model import PolyglotService, Spec
from polyglot_operator.build.facts import Capabilities
from polyglot_operator.cluster.capabilities import serves_istio
from polyglot_operator.cluster.client import Client
from polyglot_operator.cluster.errors import NotFoundError
from polyglot_operator.cluster.kinds import CONFIG_MAP, VOLUME_CLAIM, Ref
from polyglot_operator.reconcile.status import Verdict

RECHECK: Final = 30.0  # seconds until a missing source is looked for again
_REMEMBERED: Final = 25.0  # below RECHECK, so that every recheck really looks


def accept(spec: Spec, capabilities: Capabilities, missing: Sequence[str]) -> Verdict:
    """Judge a spec by what the cluster can do and which sources are `missing`; the first obstacle decides. Pure."""
    needs_istio = spec.mesh.mode == "Istio" or spec.mesh.clients == "MeshOnly"
    if needs_istio and not serves_istio(capabilities):
        return Verdict("False", Reason.ISTIO_REQUIRED, _ISTIO)
    if (spec.inference.autoscaling or spec.gateway.autoscaling) and not capabilities.metrics_api:
        return Verdict("False", Reason.METRICS_API_MISSING, _METRICS)
    if any(model.source.image for model in spec.models) and not capabilities.image_volumes:
        return Verdict("False", Reason.IMAGE_VOLUMES_UNSUPPORTED, _IMAGES)
    if missing:
        return Verdict("False", Reason.SOURCE_MISSING, f"{', '.join(missing)} not found; {_SOURCES}")
    return Verdict("True", Reason.ACCEPTED, "the spec is valid and the cluster can honour it")


def sources(service: PolyglotService) -> list[Ref]:
    """Return the ConfigMaps and PersistentVolumeClaims that a service's models come from. Pure."""
    found = []
    for model in service.spec.models:
        if model.source.config_map:
            found.append(Ref(CONFIG_MAP, service.metadata.namespace, model.source.config_map.name))
        if model.source.persistent_volume_claim:
            found.append(Ref(VOLUME_CLAIM, service.metadata.namespace, model.source.persistent_volume_claim.claim_name))
    return list(dict.fromkeys(found))


class Sources:
    """Looks for the sources of models; an answer is good for half a minute, whatever the burst of events."""

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._seen: dict[Ref, tuple[float, bool]] = {}

    async def missing(self, service: PolyglotService) -> list[str]:
        """Return the sources that do not exist, as `Kind name`. Raises `ClusterError`."""
        return [str(ref) for ref in sources(service) if not await self._exists(ref)]

    async def _exists(self, ref: Ref) -> bool:
        checked, exists = self._seen.get(ref, (float("-inf"), False))
        if self._clock() - checked < _REMEMBERED:
            return exists
        try:
            await self._client.get(ref)
            exists = True
        except NotFoundError:
            exists = False
        self._forget_old()
        self._seen[ref] = (self._clock(), exists)
        return exists

    def _forget_old(self) -> None:
        horizon = self._clock() - _REMEMBERED
        self._seen = {ref: seen for ref, seen in self._seen.items() if seen[0] > horizon}


_ISTIO: Final = (
    "the cluster does not serve Istio's v1 APIs; install Istio 1.22 or newer, or set mesh.mode to None and "
    "mesh.clients to Any"
)
_SOURCES: Final = "create it or correct the model's source; looked for again every 30 s"
_METRICS: Final = "the cluster does not serve metrics.k8s.io; install metrics-server, or set replicas"
_IMAGES: Final = (
    "the cluster does not mount images as volumes; use Kubernetes 1.35 or newer, or a persistentVolumeClaim or "
    "configMap source"
)

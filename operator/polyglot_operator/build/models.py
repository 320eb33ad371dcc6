"""Volumes that bring the models' files into the inference pods, all of them read-only."""

from __future__ import annotations

from polyglot_operator.api import names
from polyglot_operator.api.model import ModelSource, ServedModel
from polyglot_operator.build.settings import MODELS_FOLDER
from polyglot_operator.build.subject import Object

_READABLE_BY_ALL = 0o444


def volume(model: ServedModel) -> Object:
    """Return the volume of a model's source."""
    return {"name": names.model_volume(model.name), **_source(model.source)}


def mount(model: ServedModel) -> Object:
    """Return where the volume is mounted: its root, so that a missing folder is the server's clear error."""
    return {"name": names.model_volume(model.name), "mountPath": str(MODELS_FOLDER / model.name), "readOnly": True}


def _source(source: ModelSource) -> Object:
    if source.config_map:
        return {"configMap": {"name": source.config_map.name, "defaultMode": _READABLE_BY_ALL}}
    if source.image:
        return {"image": {"reference": source.image.reference, "pullPolicy": "IfNotPresent"}}
    claim = source.persistent_volume_claim
    return {"persistentVolumeClaim": {"claimName": claim.claim_name, "readOnly": True}} if claim else {}

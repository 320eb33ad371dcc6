"""Where the files of a service's models lie on this machine."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from polyglot_operator.api.model import PolyglotService, ServedModel
from polyglot_operator.manifests import InputError, documents, open_text

_KUSTOMIZATIONS: Final = ("kustomization.yaml", "kustomization.yml", "Kustomization")

# What a ConfigMap holds under a key: the bytes themselves, or the file that they come from.
Content = bytes | Path


def folders(service: PolyglotService, file: Path, given: Mapping[str, Path], scratch: Path) -> dict[str, Path]:
    """Return the folder of every model of a service that is declared in `file`.

    A folder in `given` wins. The files of a ConfigMap are found beside the service, and gathered below `scratch`; what
    only a cluster can mount must be given. Raises `InputError`.
    """
    names = [model.name for model in service.spec.models]
    for name, path in given.items():
        if name not in names:
            raise InputError(f"--model {name}={path}: {file} serves no model {name}, only {', '.join(names)}")
        if not path.is_dir():
            raise InputError(f"--model {name}={path}: no such folder; name the folder that holds the model's file")
    return {
        model.name: given[model.name].resolve() if model.name in given else _found(model, file, scratch)
        for model in service.spec.models
    }


def _found(model: ServedModel, file: Path, scratch: Path) -> Path:
    remedy = f"name the model's folder on this machine: --model {model.name}=PATH"
    if model.source.config_map is None:
        kind = "an image" if model.source.image else "a PersistentVolumeClaim"
        raise InputError(f"{file}: model {model.name} comes from {kind}, which only a cluster mounts; {remedy}")
    name = model.source.config_map.name
    content = _config_map(name, file)
    if content is not None:
        return _gathered(content, scratch / model.name)
    folder = file.resolve().parent / name
    if folder.is_dir():
        return folder
    raise InputError(
        f"{file}: model {model.name}: ConfigMap {name} is neither in a manifest, a kustomization nor a folder "
        f"{name} beside that file; {remedy}"
    )


def _config_map(name: str, file: Path) -> dict[str, Content] | None:
    """Return what a ConfigMap holds: as a manifest beside the service, or as `kubectl apply -k` would make it."""
    beside = sorted(path for path in file.resolve().parent.iterdir() if path.suffix in {".yaml", ".yml"})
    for manifest in beside:
        for body in _objects(manifest, name):
            if body.get("kind") == "ConfigMap" and (body.get("metadata") or {}).get("name") == name:
                return _manifest_content(body, manifest)
    for kustomization in (file.resolve().parent / name for name in _KUSTOMIZATIONS):
        for body in _objects(kustomization, name) if kustomization.is_file() else ():
            for generator in body.get("configMapGenerator") or ():
                if generator.get("name") == name:
                    return dict(_generated_content(generator, kustomization))
    return None


def _objects(manifest: Path, name: str) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of a file that mentions a name; others need not even be YAML."""
    with open_text(manifest) as source:
        if name not in source.read():
            return
        source.seek(0)
        yield from (body for body in documents(source, str(manifest)) if isinstance(body, Mapping))


def _manifest_content(body: Mapping[str, Any], manifest: Path) -> dict[str, Content]:
    texts: dict[str, Content] = {key: str(text).encode() for key, text in (body.get("data") or {}).items()}
    try:
        return texts | {key: base64.b64decode(text) for key, text in (body.get("binaryData") or {}).items()}
    except (binascii.Error, TypeError) as error:
        raise InputError(f"{manifest}: binaryData of ConfigMap {body['metadata']['name']}: {error}") from error


def _generated_content(generator: Mapping[str, Any], kustomization: Path) -> Iterator[tuple[str, Content]]:
    for entry in generator.get("files") or ():
        key, _, path = entry.rpartition("=")
        source = kustomization.parent / path
        if not source.is_file():
            raise InputError(f"{kustomization}: configMapGenerator {generator['name']}: no file {source}")
        yield key or source.name, source
    for entry in generator.get("literals") or ():
        key, _, text = entry.partition("=")
        yield key, text.encode()


def _gathered(content: Mapping[str, Content], folder: Path) -> Path:
    """Lay the files of a ConfigMap into one folder, as the kubelet does; files stay where they are, to be edited."""
    folder.mkdir(parents=True)
    for key, value in content.items():
        if Path(key).name != key:
            raise InputError(f"ConfigMap key {key!r}: keys hold letters, digits, '-', '_' and '.'")
        if isinstance(value, Path):
            (folder / key).symlink_to(value)
        else:
            (folder / key).write_bytes(value)
    return folder

"""The `polyglot` command.

Exit status: 0 done; 1 the input is no valid PolyglotService, the facts are wrong, or it can't be served here; 2 the
command line is wrong; 130 `serve` was interrupted twice.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from polyglot_operator.api.crd import custom_resource_definition
from polyglot_operator.api.model import PolyglotService
from polyglot_operator.api.text import to_yaml
from polyglot_operator.build import Object, canonical, children
from polyglot_operator.build.facts import Capabilities, Facts, Images, MeshPhase
from polyglot_operator.build.pod import UnknownTemplateRevisionError
from polyglot_operator.local.ports import DEFAULT_PORT
from polyglot_operator.local.serve import GATEWAY, INFERENCE, Request, serve
from polyglot_operator.manifests import InputError, documents, open_text, services

# What `render` assumes where --facts says nothing.
RENDER_FACTS = Facts(
    owner_uid="00000000-0000-0000-0000-000000000000",
    images=Images(gateway="polyglot/gateway:latest", inference="polyglot/inference:latest"),
    capabilities=Capabilities(
        istio=("networking.istio.io/v1", "security.istio.io/v1", "telemetry.istio.io/v1"),
        tracing_provider=True,
        metrics_api=True,
        image_volumes=True,
    ),
)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    arguments = _parser().parse_args(words)
    try:
        status: int | None = arguments.command(arguments)
        sys.stdout.flush()
    except InputError as error:
        print(f"polyglot: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; nor may Python complain when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status or 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="polyglot", description="Run the Polyglot operator, or use it offline.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="reconcile PolyglotServices; settings come from POLYGLOT_* variables")
    run.set_defaults(command=_run)

    render = commands.add_parser("render", help="print what the operator applies for PolyglotServices, offline")
    render.add_argument("file", type=Path, metavar="FILE", help="YAML with one or more PolyglotServices; - reads stdin")
    render.add_argument("--facts", type=Path, metavar="FACTS.yaml", help="what the operator knows besides the spec")
    render.add_argument(
        "--output",
        choices=("yaml", "json"),
        default="yaml",
        help="json prints the exact bodies that are sent, a line each",
    )
    render.set_defaults(command=_render)

    serve = commands.add_parser("serve", help="run a PolyglotService on this machine, without a cluster")
    serve.add_argument("file", type=Path, metavar="FILE", help="YAML with one PolyglotService")
    serve.add_argument(
        "--model",
        type=_model_folder,
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="folder of a model whose source only a cluster can mount; may be given for each model",
    )
    serve.add_argument(
        "--port",
        type=int,
        default=DEFAULT_PORT,
        help="first of four ports of 127.0.0.1, for REST, gRPC and the metrics of both programs; 0 takes free ones "
        "(default: %(default)s)",
    )
    serve.add_argument("--gateway", default=GATEWAY, metavar="PROGRAM", help="the gateway (default: %(default)s)")
    serve.add_argument(
        "--inference", default=INFERENCE, metavar="PROGRAM", help="the inference server (default: %(default)s)"
    )
    serve.add_argument(
        "--shared-memory",
        action="store_true",
        help="let callers hand tensors over in POSIX shared memory",
    )
    serve.set_defaults(command=_serve)

    schema = commands.add_parser("schema", help="print the CustomResourceDefinition")
    schema.set_defaults(command=_schema)
    return parser


def _run(_: argparse.Namespace) -> None:
    # Only this command needs the framework and the client, whose import takes most of a second.
    from polyglot_operator import process, settings  # noqa: PLC0415

    try:
        chosen = settings.Settings()  # type: ignore[call-arg]  # read from the environment
    except ValidationError as error:
        problems = [f"POLYGLOT_{_location(p).upper()}: {p['msg']}" for p in error.errors(include_url=False)]
        raise InputError("\n  ".join(["no valid settings in the environment:", *problems])) from error
    process.run(chosen)


def _serve(arguments: argparse.Namespace) -> int:
    return serve(
        Request(
            file=arguments.file,
            models=dict(arguments.model),
            port=arguments.port,
            gateway=arguments.gateway,
            inference=arguments.inference,
            shared_memory=arguments.shared_memory,
        )
    )


def _model_folder(word: str) -> tuple[str, Path]:
    name, separator, path = word.partition("=")
    if not (name and separator and path):
        raise argparse.ArgumentTypeError(f"{word!r} is not NAME=PATH")
    return name, Path(path)


def _schema(_: argparse.Namespace) -> None:
    sys.stdout.write(to_yaml(custom_resource_definition()))


def _render(arguments: argparse.Namespace) -> None:
    given = _read_facts(arguments.facts) if arguments.facts else {}
    if str(arguments.file) == "-":
        declared = list(services(sys.stdin, "standard input"))
    else:
        with open_text(arguments.file) as source:
            declared = list(services(source, str(arguments.file)))
    for service in declared:
        for child in _children(service, facts_for(service, given, str(arguments.facts))):
            text = canonical(child) + "\n" if arguments.output == "json" else "---\n" + to_yaml(child)
            sys.stdout.write(text)


def _children(service: PolyglotService, facts: Facts) -> list[Object]:
    try:
        return children(service, facts)
    except UnknownTemplateRevisionError as error:
        raise InputError(f"facts: templateRevision: {error}") from error


def facts_for(service: PolyglotService, given: Mapping[str, Any], where: str) -> Facts:
    """Return the facts about a service: those given, in camelCase, over those of a cluster that can do everything.

    Unless `mesh` is given, it is what a new service would get. Raises `InputError`.
    """
    adapter = TypeAdapter(Facts)
    defaults = adapter.dump_python(RENDER_FACTS, mode="json", by_alias=True)
    try:
        facts = adapter.validate_python(_merged(defaults, given))
    except ValidationError as error:
        problems = [f"{_location(p)}: {p['msg']}" for p in error.errors(include_url=False)]
        raise InputError("\n  ".join([f"{where}: no valid facts:", *problems])) from error
    if "mesh" in given:
        return facts
    absent = facts.capabilities.istio is None
    if absent and service.spec.mesh.mode == "Istio":
        raise InputError(f"{service.metadata.name}: spec.mesh.mode is Istio, but capabilities.istio of {where} is null")
    plain = absent or service.spec.mesh.mode == "None"
    return dataclasses.replace(facts, mesh=MeshPhase.NONE if plain else MeshPhase.STRICT)


def _read_facts(path: Path) -> Mapping[str, Any]:
    with open_text(path) as source:
        found = documents(source, str(path))
    if len(found) != 1 or not isinstance(found[0], Mapping):
        raise InputError(f"{path}: facts are one object")
    return dict(found[0])


def _location(problem: ErrorDetails) -> str:
    return ".".join(map(str, problem["loc"]))


def _merged(default: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Lay given values over defaults, map by map."""
    nested = {
        key: _merged(default[key], value)
        for key, value in given.items()
        if isinstance(value, Mapping) and isinstance(default.get(key), Mapping)
    }
    return {**default, **given, **nested}


if __name__ == "__main__":
    sys.exit(main())

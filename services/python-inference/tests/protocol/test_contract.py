"""The contract against the one that Triton's own client was generated from."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterable

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto

from polyglot_inference.protocol.pb import grpc_service_pb2, model_config_pb2

# In a process of its own: two files that define the same messages cannot be loaded into one.
_DUMP = """
import base64
from tritonclient.grpc import model_config_pb2, service_pb2
for file in (service_pb2, model_config_pb2):
    print(base64.b64encode(file.DESCRIPTOR.serialized_pb).decode())
"""

Contract = tuple[FileDescriptorProto, FileDescriptorProto]
"""The file of the service and that of the model configuration."""


@pytest.fixture(scope="module")
def tritons() -> Contract:
    dump = subprocess.run([sys.executable, "-c", _DUMP], check=True, capture_output=True, text=True)
    service, configuration = map(base64.b64decode, dump.stdout.split())
    return FileDescriptorProto.FromString(service), FileDescriptorProto.FromString(configuration)


@pytest.fixture(scope="module")
def ours() -> Contract:
    service, configuration = (file.DESCRIPTOR.serialized_pb for file in (grpc_service_pb2, model_config_pb2))
    return FileDescriptorProto.FromString(service), FileDescriptorProto.FromString(configuration)


def fields(message: DescriptorProto, prefix: str = "") -> set[tuple[str, str, int, int, int, str]]:
    """Every field of a message and of those nested in it, as (message, name, number, type, label, type name)."""
    own = {
        (f"{prefix}{message.name}", field.name, field.number, field.type, field.label, field.type_name)
        for field in message.field
    }
    return own.union(*(fields(nested, f"{prefix}{message.name}.") for nested in message.nested_type))


def values(enums: Iterable[EnumDescriptorProto]) -> dict[str, dict[str, int]]:
    """Every value of enums."""
    return {enum.name: {value.name: value.number for value in enum.value} for enum in enums}


def nested_values(message: DescriptorProto, prefix: str = "") -> dict[str, dict[str, dict[str, int]]]:
    """Every value of the enums within a message."""
    own = {f"{prefix}{message.name}": values(message.enum_type)}
    for nested in message.nested_type:
        own |= nested_values(nested, f"{prefix}{message.name}.")
    return own


@pytest.mark.parametrize("file", [0, 1], ids=["service", "configuration"])
def test_every_message_has_tritons_fields(ours: Contract, tritons: Contract, file: int) -> None:
    mine = {message.name: fields(message) for message in ours[file].message_type}
    assert mine == {message.name: fields(message) for message in tritons[file].message_type}


def test_every_enum_has_tritons_values(ours: Contract, tritons: Contract) -> None:
    mine, theirs = ours[1], tritons[1]
    assert values(mine.enum_type) == values(theirs.enum_type)
    assert list(map(nested_values, sorted(mine.message_type, key=by_name))) == list(
        map(nested_values, sorted(theirs.message_type, key=by_name))
    )


def by_name(message: DescriptorProto) -> str:
    return message.name


def test_the_service_has_tritons_methods(ours: Contract, tritons: Contract) -> None:
    def methods(file: FileDescriptorProto) -> list[tuple[str, str, str, bool, bool]]:
        (service,) = file.service
        assert (file.package, service.name) == ("inference", "GRPCInferenceService")
        return sorted(
            (method.name, method.input_type, method.output_type, method.client_streaming, method.server_streaming)
            for method in service.method
        )

    assert methods(ours[0]) == methods(tritons[0])
    assert len(methods(ours[0])) == 20

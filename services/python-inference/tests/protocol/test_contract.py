"""The contract against the one that Triton's own client was generated from."""

from __future__ import annotations

import base64
import subprocess
import sys

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

from polyglot_inference.protocol.pb import grpc_service_pb2 as pb

# In a process of its own: two files that define the same messages cannot be loaded into one.
_DUMP = """
import base64
from tritonclient.grpc import service_pb2
print(base64.b64encode(service_pb2.DESCRIPTOR.serialized_pb).decode())
"""


@pytest.fixture(scope="module")
def tritons() -> FileDescriptorProto:
    dump = subprocess.run([sys.executable, "-c", _DUMP], check=True, capture_output=True, text=True)
    return FileDescriptorProto.FromString(base64.b64decode(dump.stdout))


@pytest.fixture(scope="module")
def ours() -> FileDescriptorProto:
    return FileDescriptorProto.FromString(pb.DESCRIPTOR.serialized_pb)


def fields(message: DescriptorProto, prefix: str = "") -> set[tuple[str, str, int, int, int, str]]:
    """Every field of a message and of those nested in it, as (message, name, number, type, label, type name)."""
    own = {
        (f"{prefix}{message.name}", field.name, field.number, field.type, field.label, field.type_name)
        for field in message.field
    }
    return own.union(*(fields(nested, f"{prefix}{message.name}.") for nested in message.nested_type))


def test_every_message_has_tritons_fields(ours: FileDescriptorProto, tritons: FileDescriptorProto) -> None:
    carried = {"ModelConfig"}  # in a file of its own at Triton; we pass it on without looking inside
    mine = {message.name: fields(message) for message in ours.message_type if message.name not in carried}
    assert mine == {message.name: fields(message) for message in tritons.message_type}


def test_the_service_has_tritons_methods(ours: FileDescriptorProto, tritons: FileDescriptorProto) -> None:
    def methods(file: FileDescriptorProto) -> list[tuple[str, str, str, bool, bool]]:
        (service,) = file.service
        assert (file.package, service.name) == ("inference", "GRPCInferenceService")
        return sorted(
            (method.name, method.input_type, method.output_type, method.client_streaming, method.server_streaming)
            for method in service.method
        )

    assert methods(ours) == methods(tritons)
    assert len(methods(ours)) == 20


def test_an_unknown_model_configuration_survives_a_pass_through_our_message() -> None:
    tritons_config = b"\x0a\x07\x0a\x05model"  # ModelConfigResponse.config.name = "model", a field we do not declare
    assert pb.ModelConfigResponse.FromString(tritons_config).SerializeToString() == tritons_config

"""All of a raw answer that is the same from call to call: what is new is put in as bytes, without a message."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.protocol.wire import embedded, field_tag

_ID: Final = field_tag(pb.ModelInferResponse.ID_FIELD_NUMBER)
_RAW: Final = field_tag(pb.ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A raw answer without id and data.

    Parameters
    ----------
    before_id, after_id
        Its bytes, in the order of fields in which protobuf writes them.
    written_for
        What it depends on.
    """

    before_id: bytes
    after_id: bytes
    written_for: object

    @classmethod
    def of(cls, response: pb.ModelInferResponse, written_for: object) -> Self:
        """The envelope that is this message, which has no id."""
        named = pb.ModelInferResponse(model_name=response.model_name, model_version=response.model_version)
        before_id = named.SerializeToString()
        return cls(before_id, response.SerializeToString()[len(before_id) :], written_for)

    def around(self, request_id: str, raws: Iterable[bytes]) -> bytes:
        """The bytes of the whole answer, with the raw form of each output in their order."""
        answer = self.before_id
        if request_id:
            answer += embedded(_ID, request_id.encode())
        answer += self.after_id
        for raw in raws:
            answer += embedded(_RAW, raw)
        return answer

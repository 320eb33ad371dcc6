"""Messages around the bytes of others, which are not read again for that.

Source: https://protobuf.dev/programming-guides/encoding/.
"""

from typing import Final

_LENGTH_DELIMITED: Final = 2  # the wire type of messages


def message_tag(field_number: int) -> bytes:
    """What the bytes of a field begin with that holds a message; the field's number is at most 15."""
    return bytes([field_number << 3 | _LENGTH_DELIMITED])


def embedded(tag: bytes, message: bytes) -> bytes:
    """The bytes of a field that holds this message."""
    length, size = bytearray(tag), len(message)
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes(length) + message

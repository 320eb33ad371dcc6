"""Messages around the bytes of others, which are not read again for that.

Source: https://protobuf.dev/programming-guides/encoding/.
"""

import functools
from typing import Final

_LENGTH_DELIMITED: Final = 2  # the wire type of messages, texts and bytes


def field_tag(field_number: int) -> bytes:
    """What the bytes of a field begin with that holds a message, a text or bytes; the field's number is at most 15."""
    return bytes([field_number << 3 | _LENGTH_DELIMITED])


def embedded(tag: bytes, content: bytes) -> bytes:
    """The bytes of a field that holds this message, this text in UTF-8, or these bytes."""
    return tag + _varint(len(content)) + content


@functools.lru_cache(1024)  # most messages have the length of another
def _varint(number: int) -> bytes:
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)

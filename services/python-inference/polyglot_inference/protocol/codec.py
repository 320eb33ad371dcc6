"""Tensors on the wire: from a protocol message to numpy and back, in raw and in typed form.

Raw numeric tensors are views of the message's bytes, never copied on the way in. Malformed data raises
`InvalidTensorError` with the tensor named, whatever the bytes are.

Source: Open Inference Protocol v2, "Tensor Data"; Triton's rules for BYTES (4-byte little-endian length before each
element).
"""

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from polyglot_inference.errors import InvalidTensorError
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.tensors import BYTES, NUMPY_DTYPES, Array

_LENGTH: Final = struct.Struct("<I")

# Of an array, in every version of numpy.
_MOST_DIMENSIONS: Final = 32

# The field of InferTensorContents that carries a datatype, and the dtype of that field's elements.
# FP16 and BF16 have none: the protocol lets them travel raw only.
CONTENTS_FIELDS: Final[dict[str, tuple[str, np.dtype[Any]]]] = {
    "BOOL": ("bool_contents", np.dtype(np.bool_)),
    "UINT8": ("uint_contents", np.dtype("<u4")),
    "UINT16": ("uint_contents", np.dtype("<u4")),
    "UINT32": ("uint_contents", np.dtype("<u4")),
    "UINT64": ("uint64_contents", np.dtype("<u8")),
    "INT8": ("int_contents", np.dtype("<i4")),
    "INT16": ("int_contents", np.dtype("<i4")),
    "INT32": ("int_contents", np.dtype("<i4")),
    "INT64": ("int64_contents", np.dtype("<i8")),
    "FP32": ("fp32_contents", np.dtype("<f4")),
    "FP64": ("fp64_contents", np.dtype("<f8")),
    BYTES: ("bytes_contents", np.dtype(np.object_)),
}


def decode_raw(name: str, datatype: str, shape: Sequence[int], raw: bytes | memoryview) -> Array:
    """Read a tensor from its raw form.

    Numeric tensors share the memory of `raw` and are read-only; BYTES become an object array of bytes.

    Raises
    ------
    InvalidTensorError
        The size of `raw` does not follow from shape and datatype, or its bytes are no such tensor.
    """
    dtype = _dtype(name, datatype)
    count = _element_count(name, shape)
    if datatype == BYTES:
        return _reshape(name, _split_bytes(name, raw, count), shape)
    size = count * dtype.itemsize
    if len(raw) != size:
        raise InvalidTensorError(
            f"input {name!r}: {len(raw)} bytes of raw data, but shape {list(shape)} of {datatype} needs {size}"
        )
    if datatype == "BOOL":
        _require_booleans(name, raw)
    return _reshape(name, np.frombuffer(raw, dtype=dtype), shape)


class RawTensor:
    """A tensor whose data is to be read from its raw form, again and again: its size is worked out once.

    Parameters
    ----------
    name, datatype, shape
        As of `decode_raw`.
    """

    __slots__ = ("_datatype", "_dtype", "_shape", "_size", "name")

    def __init__(self, name: str, datatype: str, shape: tuple[int, ...]) -> None:
        self.name = name
        self._datatype = datatype
        self._shape = shape
        self._dtype = NUMPY_DTYPES[datatype]
        plain = datatype not in (BYTES, "BOOL") and min(shape, default=1) > 0 and len(shape) <= _MOST_DIMENSIONS
        self._size = math.prod(shape) * self._dtype.itemsize if plain else None

    @property
    def size(self) -> int | None:
        """How many bytes are plainly right; None where `decode_raw` has to look at them."""
        return self._size

    def read(self, raw: bytes) -> Array:
        """The tensor; `decode_raw` has the last word on all that is not plainly right, and the same result."""
        if len(raw) == self._size:
            return np.ndarray(self._shape, self._dtype, raw)
        return decode_raw(self.name, self._datatype, self._shape, raw)

    def stack(self, raws: Iterable[bytes], rows: int) -> Array:
        """The tensors of several requests, each of `size` bytes, stacked along the first dimension to so many rows."""
        return np.ndarray((rows, *self._shape[1:]), self._dtype, b"".join(raws))


def decode_contents(name: str, datatype: str, shape: Sequence[int], contents: pb.InferTensorContents) -> Array:
    """Read a tensor from its typed form.

    Raises
    ------
    InvalidTensorError
        The elements are in the wrong field, too many or too few, or out of the datatype's range.
    """
    dtype = _dtype(name, datatype)
    if datatype not in CONTENTS_FIELDS:
        raise InvalidTensorError(f"input {name!r}: {datatype} has no typed form; send it in raw_input_contents")
    field, wire_dtype = CONTENTS_FIELDS[datatype]
    foreign = [descriptor.name for descriptor, _ in contents.ListFields() if descriptor.name != field]
    if foreign:
        raise InvalidTensorError(
            f"input {name!r}: {datatype} travels in contents.{field}, but {', '.join(foreign)} is filled"
        )
    elements = getattr(contents, field)
    count = _element_count(name, shape)
    if len(elements) != count:
        raise InvalidTensorError(
            f"input {name!r}: {len(elements)} elements in contents.{field}, but shape {list(shape)} needs {count}"
        )
    return _reshape(name, _narrow(name, datatype, np.fromiter(elements, dtype=wire_dtype, count=count), dtype), shape)


def encode_raw(tensor: Array, datatype: str) -> bytes:
    """Write a tensor in raw form; `tensor` has the dtype that `NUMPY_DTYPES` gives for the datatype."""
    if datatype != BYTES:
        return tensor.tobytes()
    elements = tensor.reshape(-1).tolist()
    return b"".join(part for element in elements for part in (_LENGTH.pack(len(element)), element))


def encode_contents(tensor: Array, datatype: str) -> pb.InferTensorContents:
    """Write a tensor in typed form; the datatype must be one of `CONTENTS_FIELDS`."""
    field, _ = CONTENTS_FIELDS[datatype]
    contents = pb.InferTensorContents()
    getattr(contents, field).extend(tensor.reshape(-1).tolist())
    return contents


def _dtype(name: str, datatype: str) -> np.dtype[Any]:
    try:
        return NUMPY_DTYPES[datatype]
    except KeyError:
        raise InvalidTensorError(
            f"input {name!r}: datatype {datatype!r} is none of {', '.join(NUMPY_DTYPES)}"
        ) from None


def _element_count(name: str, shape: Sequence[int]) -> int:
    if min(shape, default=0) < 0:
        raise InvalidTensorError(
            f"input {name!r}: shape {list(shape)} has a negative dimension; a request states every size"
        )
    return math.prod(shape)


def _split_bytes(name: str, raw: bytes | memoryview, count: int) -> Array:
    # Before anything is allocated: a shape may claim far more elements than were sent.
    if len(raw) < count * _LENGTH.size:
        raise InvalidTensorError(
            f"input {name!r}: {len(raw)} bytes of raw data cannot hold {count} BYTES elements of at least 4 bytes"
        )
    elements = np.empty(count, dtype=np.object_)
    position = 0
    for index in range(count):
        start = position + _LENGTH.size
        if start > len(raw):
            raise InvalidTensorError(
                f"input {name!r}: raw data ends before the length of BYTES element {index} of {count}"
            )
        position = start + _LENGTH.unpack_from(raw, position)[0]
        if position > len(raw):
            raise InvalidTensorError(f"input {name!r}: raw data ends within BYTES element {index} of {count}")
        elements[index] = bytes(raw[start:position])
    if position != len(raw):
        raise InvalidTensorError(
            f"input {name!r}: {len(raw) - position} bytes of raw data follow the last of {count} BYTES elements"
        )
    return elements


def _require_booleans(name: str, raw: bytes | memoryview) -> None:
    wrong = np.flatnonzero(np.frombuffer(raw, dtype=np.uint8) > 1)
    if wrong.size:
        position = int(wrong[0])
        raise InvalidTensorError(
            f"input {name!r}: BOOL element {position} is byte {raw[position]}; only 0 and 1 are allowed"
        )


def _narrow(name: str, datatype: str, wide: Array, dtype: np.dtype[Any]) -> Array:
    """Convert 32-bit wire integers to the datatype's width, refusing what does not fit."""
    if wide.dtype == dtype:
        return wide
    narrow = wide.astype(dtype)
    wrong = np.flatnonzero(narrow != wide)
    if wrong.size:
        raise InvalidTensorError(
            f"input {name!r}: element {wrong[0]} is {wide[wrong[0]]}, out of the range of {datatype}"
        )
    return narrow


def _reshape(name: str, flat: Array, shape: Sequence[int]) -> Array:
    try:
        return flat.reshape(tuple(shape))
    except ValueError as error:  # more dimensions than numpy has, or a size beyond the address space beside a zero
        raise InvalidTensorError(f"input {name!r}: shape {list(shape)} is not possible: {error}") from None

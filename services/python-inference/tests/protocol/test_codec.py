"""Every datatype in both forms, and every malformed tensor, by property."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from polyglot_inference.errors import InvalidTensorError
from polyglot_inference.protocol import codec
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.tensors import NUMPY_DTYPES

NUMERIC = [datatype for datatype in NUMPY_DTYPES if datatype != "BYTES"]
shapes = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def tensors(datatype: str) -> st.SearchStrategy[Any]:
    if datatype == "BYTES":
        return shapes.flatmap(
            lambda shape: st.lists(
                st.binary(max_size=9), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))
            ).map(lambda elements: object_array(elements, shape))
        )
    if datatype == "BF16":  # which hypothesis does not know: any two bytes are one
        return arrays.arrays(np.dtype("<u2"), shapes).map(lambda bits: bits.view(NUMPY_DTYPES["BF16"]))
    return arrays.arrays(NUMPY_DTYPES[datatype], shapes)


def object_array(elements: list[bytes], shape: tuple[int, ...]) -> Any:
    array = np.empty(len(elements), dtype=np.object_)
    array[:] = elements
    return array.reshape(shape)


def same(left: Any, right: Any) -> bool:
    """Equal in dtype, shape and every bit: NaN equals NaN of the same bits."""
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    return bool(left.tolist() == right.tolist() if left.dtype == object else left.tobytes() == right.tobytes())


@pytest.mark.parametrize("datatype", NUMPY_DTYPES)
@given(data=st.data())
def test_raw_form_gives_back_every_tensor(datatype: str, data: st.DataObject) -> None:
    tensor = data.draw(tensors(datatype))
    raw = codec.encode_raw(tensor, datatype)
    assert same(codec.decode_raw("x", datatype, tensor.shape, raw), tensor)


@pytest.mark.parametrize("datatype", codec.CONTENTS_FIELDS)
@given(data=st.data())
def test_typed_form_gives_back_every_tensor(datatype: str, data: st.DataObject) -> None:
    tensor = data.draw(tensors(datatype))
    wire = codec.encode_contents(tensor, datatype).SerializeToString()
    contents = pb.InferTensorContents.FromString(wire)
    back = codec.decode_contents("x", datatype, tensor.shape, contents)
    if tensor.dtype.kind == "f":  # a NaN's payload may change on its way through a Python float
        assert back.dtype == tensor.dtype
        np.testing.assert_array_equal(back, tensor, strict=True)
    else:
        assert same(back, tensor)


@pytest.mark.parametrize("datatype", [*NUMPY_DTYPES, "", "fp32", "INT128"])
@given(raw=st.binary(max_size=64), shape=st.lists(st.integers(-2, 2**62), max_size=70))
def test_raw_form_of_anything_gives_a_tensor_of_that_shape_or_the_typed_error(
    datatype: str, raw: bytes, shape: list[int]
) -> None:
    try:
        tensor = codec.decode_raw("the-input", datatype, shape, raw)
    except InvalidTensorError as error:
        complaint = error.message
    else:
        assert list(tensor.shape) == shape
        assert codec.encode_raw(tensor, datatype) == raw
        return
    assert "'the-input'" in complaint


contents_messages = st.builds(
    pb.InferTensorContents,
    bool_contents=st.lists(st.booleans(), max_size=3),
    int_contents=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
    uint_contents=st.lists(st.integers(0, 2**32 - 1), max_size=3),
    fp32_contents=st.lists(st.floats(width=32), max_size=3),
    bytes_contents=st.lists(st.binary(max_size=3), max_size=3),
)


@pytest.mark.parametrize("datatype", [*NUMPY_DTYPES, "nonsense"])
@given(contents=contents_messages, shape=st.lists(st.integers(-1, 4), max_size=3))
def test_typed_form_of_anything_gives_a_tensor_of_that_shape_or_the_typed_error(
    datatype: str, contents: pb.InferTensorContents, shape: list[int]
) -> None:
    try:
        tensor = codec.decode_contents("the-input", datatype, shape, contents)
    except InvalidTensorError as error:
        complaint = error.message
    else:
        assert list(tensor.shape) == shape
        assert tensor.dtype == NUMPY_DTYPES[datatype]
        return
    assert "'the-input'" in complaint


@pytest.mark.parametrize("datatype", NUMERIC)
def test_raw_numbers_are_a_view_of_the_message_and_read_only(datatype: str) -> None:
    raw = bytes(NUMPY_DTYPES[datatype].itemsize * 6)
    tensor = codec.decode_raw("x", datatype, [2, 3], raw)
    assert np.shares_memory(tensor, np.frombuffer(raw, dtype=np.uint8))
    assert not tensor.flags.writeable


def test_bytes_elements_keep_nul_utf8_and_emptiness() -> None:
    elements = [b"", b"\x00", "größer".encode(), b"\xff\xfe"]
    raw = b"".join(struct.pack("<I", len(element)) + element for element in elements)
    assert codec.decode_raw("x", "BYTES", [2, 2], raw).ravel().tolist() == elements


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "complaint"),
    [
        ("FP32", [2], b"\0" * 7, "7 bytes of raw data, but shape [2] of FP32 needs 8"),
        ("FP32", [-1], b"", "negative dimension"),
        ("BF16", [1], b"\0\0\0", "3 bytes of raw data, but shape [1] of BF16 needs 2"),
        ("FLOAT", [1], b"\0\0\0\0", "datatype 'FLOAT' is none of BOOL"),
        ("BOOL", [3], b"\x01\x00\x02", "BOOL element 2 is byte 2"),
        ("BYTES", [2], b"\x01\0\0\0a", "cannot hold 2 BYTES elements"),
        ("BYTES", [1], b"\x05\0\0\0a", "ends within BYTES element 0"),
        ("BYTES", [2], b"\x03\0\0\0abc\x01", "ends before the length of BYTES element 1"),
        ("BYTES", [1], b"\0\0\0\0a", "1 bytes of raw data follow the last"),
        ("BYTES", [2**40], b"\0\0\0\0", "cannot hold 1099511627776 BYTES elements"),
        ("FP32", [0, 2**62], b"", "is not possible"),
    ],
)
def test_malformed_raw_data_is_refused_with_the_reason(
    datatype: str, shape: list[int], raw: bytes, complaint: str
) -> None:
    with pytest.raises(InvalidTensorError) as caught:
        codec.decode_raw("x", datatype, shape, raw)
    assert complaint in caught.value.message


@pytest.mark.parametrize(
    ("datatype", "contents", "complaint"),
    [
        ("INT8", pb.InferTensorContents(int_contents=[1, 128]), "element 1 is 128, out of the range of INT8"),
        ("UINT16", pb.InferTensorContents(uint_contents=[70000, 1]), "element 0 is 70000, out of the range of UINT16"),
        ("FP32", pb.InferTensorContents(fp64_contents=[1, 2]), "travels in contents.fp32_contents, but fp64_contents"),
        ("FP32", pb.InferTensorContents(fp32_contents=[1]), "1 elements in contents.fp32_contents, but shape [2]"),
        ("FP16", pb.InferTensorContents(), "FP16 has no typed form"),
    ],
)
def test_malformed_typed_data_is_refused_with_the_reason(
    datatype: str, contents: pb.InferTensorContents, complaint: str
) -> None:
    with pytest.raises(InvalidTensorError) as caught:
        codec.decode_contents("x", datatype, [2], contents)
    assert complaint in caught.value.message

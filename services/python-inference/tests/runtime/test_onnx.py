"""ONNX models on the real ONNX Runtime."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from polyglot_inference.errors import InvalidTensorError, ModelLoadError
from polyglot_inference.runtime.onnx import OnnxModel
from polyglot_inference.tensors import NUMPY_DTYPES, TensorSpec

if TYPE_CHECKING:
    from polyglot_inference.settings import ModelSettings
    from tests.conftest import WriteOnnx

ELEMENT_TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BF16": TensorProto.BFLOAT16,
    "BYTES": TensorProto.STRING,
}


@pytest.mark.parametrize("datatype", ELEMENT_TYPES)
def test_every_datatype_passes_through_a_model(datatype: str, onnx_identity: WriteOnnx) -> None:
    settings = onnx_identity("identity", ELEMENT_TYPES[datatype], ["rows", 2])
    model = OnnxModel.load("identity", settings.path, cpus=1)
    assert list(model.inputs) == [TensorSpec("x", datatype, [-1, 2])]
    tensor = np.array([[0, 1], [1, 0]]).astype(NUMPY_DTYPES[datatype])
    if datatype == "BYTES":
        tensor = np.array([[b"", "größer".encode()]], dtype=np.object_)
    result = model.predict({"x": tensor}, ["y"])["y"]
    assert result.dtype == tensor.dtype
    np.testing.assert_array_equal(result, tensor, strict=True)


def cast(source: int, target: int, path: Path) -> None:
    """Write a model that casts x, with a row of any length, to y."""
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["y"], to=target)],
        "cast",
        [helper.make_tensor_value_info("x", source, ["rows"])],
        [helper.make_tensor_value_info("y", target, ["rows"])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(("source", "target"), [("BF16", "FP32"), ("FP32", "BF16")])
@pytest.mark.parametrize("rows", [0, 3, 5000])
def test_bf16_goes_in_and_comes_out_beside_other_datatypes(
    source: str, target: str, rows: int, read_only: bool, tmp_path: Path
) -> None:
    cast(ELEMENT_TYPES[source], ELEMENT_TYPES[target], tmp_path / "model.onnx")
    model = OnnxModel.load("cast", tmp_path, cpus=1)
    tensor = np.linspace(-3e38, 3e38, rows, dtype=np.float32).astype(NUMPY_DTYPES[source])
    tensor.flags.writeable = not read_only
    result = model.predict({"x": tensor}, ["y"])["y"]
    np.testing.assert_array_equal(result, tensor.astype(NUMPY_DTYPES[target]), strict=True)


def test_bf16_out_of_a_model_with_text_is_refused_with_what_to_do(tmp_path: Path) -> None:
    cast(TensorProto.STRING, TensorProto.BFLOAT16, tmp_path / "model.onnx")
    with pytest.raises(ModelLoadError, match=r"output 'y' is a tensor\(bfloat16\) in a model with text .*Cast"):
        OnnxModel.load("cast", tmp_path, cpus=1)


def test_a_read_only_view_of_a_message_is_a_valid_input(identity: ModelSettings) -> None:
    model = OnnxModel.load("identity", identity.path, cpus=1)
    view = np.frombuffer(np.arange(8, dtype=np.float32).tobytes(), dtype=np.float32).reshape(2, 4)
    np.testing.assert_array_equal(model.predict({"x": view}, ["y"])["y"], view)


def test_a_string_that_is_no_text_is_refused_with_the_tensor_named(onnx_identity: WriteOnnx) -> None:
    settings = onnx_identity("text", TensorProto.STRING, [1])
    model = OnnxModel.load("text", settings.path, cpus=1)
    with pytest.raises(InvalidTensorError, match="input 'x': an ONNX string must be UTF-8"):
        model.predict({"x": np.array([b"\xff"], dtype=np.object_)}, ["y"])


def test_onnx_runtime_reports_nothing_to_its_vendor(identity: ModelSettings, tmp_path: Path) -> None:
    # Its telemetry shows itself by an identifier kept below the home directory.
    home = tmp_path / "home"
    home.mkdir()
    script = f"""
from pathlib import Path
from polyglot_inference.runtime.onnx import OnnxModel
OnnxModel.load("identity", Path({str(identity.path)!r}), cpus=1)
"""
    subprocess.run([sys.executable, "-c", script], check=True, env={"HOME": str(home)})
    assert list(home.iterdir()) == []


def test_loading_an_empty_folder_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"model 'none': .*model\.onnx does not exist; a model of format ONNX"):
        OnnxModel.load("none", tmp_path, cpus=1)


def test_loading_a_broken_file_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"this is no model")
    with pytest.raises(ModelLoadError, match=r"model 'broken': ONNX Runtime .* refuses .*model\.onnx"):
        OnnxModel.load("broken", tmp_path, cpus=1)


def test_a_model_with_an_output_that_is_no_tensor_is_refused(tmp_path: Path) -> None:
    sequence = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(
        [helper.make_node("SequenceConstruct", ["x"], ["y"])],
        "sequence",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [sequence],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ModelLoadError, match=r"output 'y' is a seq\(tensor\(float\)\).*zipmap=False"):
        OnnxModel.load("sequence", tmp_path, cpus=1)

"""Inference server for ONNX and Python models, speaking the Open Inference Protocol v2 over gRPC.

A Python model imports one name from here: `TensorSpec`, to declare its inputs and outputs.
"""

from polyglot_inference.tensors import TensorSpec

__all__ = ["TensorSpec"]

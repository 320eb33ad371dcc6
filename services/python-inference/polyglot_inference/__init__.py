"""Inference server for ONNX and Python models, speaking the Open Inference Protocol v2 over gRPC.

What authors of Python models import from here; `runtime/author.py` says what a model is.
"""

from polyglot_inference.errors import InvalidTensorError
from polyglot_inference.runtime.author import Progress
from polyglot_inference.runtime.model import Request
from polyglot_inference.tensors import Array, TensorSpec

__all__ = ["Array", "InvalidTensorError", "Progress", "Request", "TensorSpec"]

"""Inference server for ONNX and Python models, speaking the Open Inference Protocol v2 over gRPC."""

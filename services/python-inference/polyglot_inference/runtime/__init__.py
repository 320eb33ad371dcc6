"""How a model runs: ONNX Runtime or a user's class, behind one protocol, on threads of its own."""

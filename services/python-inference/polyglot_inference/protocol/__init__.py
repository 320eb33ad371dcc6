"""The Open Inference Protocol on the wire: messages, tensor encodings, errors and the gRPC servicer."""

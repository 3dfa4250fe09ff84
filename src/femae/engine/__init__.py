"""Inference engines: ONNX Runtime, OpenVINO and torch behind one protocol (`spec`); models by path, name or address."""

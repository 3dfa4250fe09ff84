"""Runs a femae model: ONNX Runtime, OpenVINO or torch behind one protocol (`spec`), found by path, name or address."""

"""ONNX Runtime, told to report nothing.

Its packages send figures of use to their maker since 1.29, unless the environment says `ORT_DISABLE_TELEMETRY=1` before
they are loaded. Whoever reads faces in films has a right to a program that sends nothing, so it is said here, and
everything in femae takes ONNX Runtime from here. A value that the user has set stays.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

__all__ = ["onnxruntime"]

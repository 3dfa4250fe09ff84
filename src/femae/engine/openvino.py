"""Runs a femae model with OpenVINO, from its own format (.xml beside .bin) or from ONNX.

By default the CPU plug-in computes in bfloat16 where the processor supports it; here it is set to float32, so that the
results agree with those of the other engines. Calls from several threads run in parallel, each with its own inference
request.
"""

import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from femae.config.options import DeviceName
from femae.cores import num_cores
from femae.engine.spec import METADATA_KEY, ModelSpec, Probabilities, preprocess
from femae.errors import ConfigError, ModelError

__all__ = ["OpenVinoEngine"]

openvino: Any = import_module("openvino")  # untyped: its annotations differ between releases


class OpenVinoEngine:
    """Engine for an .xml or .onnx file with input `pixels` f32[N, C, S, S] and outputs ModelSpec.output_names."""

    device = "cpu"

    def __init__(self, path: Path, *, num_threads: int = 1, device: DeviceName = "cpu") -> None:
        """Load the file; `num_threads`: of one call. Raises ModelError when it is missing or not a femae model.

        Raises ConfigError for any device but auto, cpu and openvino, all of which run on the CPU.
        """
        if device not in ("auto", "cpu", "openvino"):
            raise ConfigError(f"--engine openvino runs on the CPU, not on {device}: leave out --engine or --device")
        if not path.is_file():
            raise ModelError(f"there is no model file {path}; give an .xml or .onnx file written by femae")
        core = openvino.Core()
        try:
            model = core.read_model(path)
        except RuntimeError as error:
            raise ModelError(_explain_unreadable(path)) from error
        self.spec = ModelSpec.from_metadata(_metadata(model), path=str(path))
        self.spec.check_names(
            inputs=[port.any_name for port in model.inputs],
            outputs=[port.any_name for port in model.outputs],
            path=str(path),
        )
        streams = max(1, num_cores() // num_threads)
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": streams * num_threads,
            "ENABLE_CPU_PINNING": False,
        }
        try:
            self._compiled = core.compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot run {path}: {str(error).splitlines()[-1]}") from error
        self._local = threading.local()

    def run(self, crops: npt.NDArray[np.uint8]) -> Probabilities:
        """Probabilities of N crops u8[N, S, S, 3] RGB."""
        if len(crops) == 0:
            return self.spec.no_faces()
        if not hasattr(self._local, "request"):
            self._local.request = self._compiled.create_infer_request()
        result = self._local.request.infer({"pixels": preprocess(crops, spec=self.spec)})
        return self.spec.to_probabilities([np.array(result[name]) for name in self.spec.output_names])


def _explain_unreadable(path: Path) -> str:
    if path.suffix == ".xml" and not path.with_suffix(".bin").is_file():
        return f"{path} lacks its weights: {path.with_suffix('.bin').name} must be in the same folder"
    return f"{path} cannot be read as an OpenVINO or ONNX model; give a file written by femae"


def _metadata(model: Any) -> dict[str, str]:
    """The entry `femae` of the model's rt_info: at the top level from .xml, under `framework` from .onnx."""
    for path in ([METADATA_KEY], ["framework", METADATA_KEY]):
        if model.has_rt_info(path):
            return {METADATA_KEY: str(model.get_rt_info(path).value)}
    return {}

"""Runs a femae model with ONNX Runtime."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from femae.config.options import DeviceName
from femae.engine.spec import ModelSpec, Probabilities, preprocess
from femae.errors import FemaeError, ModelError
from femae.ort import open_session, session_options

__all__ = ["OnnxEngine"]


class OnnxEngine:
    """Engine for an ONNX file with input `pixels` f32[N, C, S, S] and the outputs of ModelSpec.output_names."""

    def __init__(self, path: Path, *, num_threads: int = 1, device: DeviceName = "cpu") -> None:
        """Load the file. Raises ModelError when it is missing, not ONNX, or not a femae model.

        Raises ConfigError or MissingDependencyError for a device that cannot be used.
        """
        if not path.is_file():
            raise ModelError(f"there is no model file {path}; give the path of an .onnx file written by femae")
        try:
            self._session = open_session(path, options=session_options(num_threads=num_threads), device=device)
        except FemaeError:
            raise
        except Exception as error:  # onnxruntime's exceptions have no common public base class
            raise ModelError(f"{path} cannot be read as an ONNX model; give an .onnx file written by femae") from error
        self.device = self._session.device
        self.spec = ModelSpec.from_metadata(self._session.inner.get_modelmeta().custom_metadata_map, path=str(path))
        self.spec.check_names(
            inputs=[i.name for i in self._session.inner.get_inputs()],
            outputs=[o.name for o in self._session.inner.get_outputs()],
            path=str(path),
        )

    def run(self, crops: npt.NDArray[np.uint8]) -> Probabilities:
        """Probabilities of N crops u8[N, S, S, 3] RGB."""
        if len(crops) == 0:
            return self.spec.no_faces()
        return self.spec.to_probabilities(self._session.run({"pixels": preprocess(crops, spec=self.spec)}))

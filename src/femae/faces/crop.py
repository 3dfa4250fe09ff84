"""Square crops that frame a detected face as the training pictures frame theirs (paper, section 4.1: face crops).

The network is trained on FER+, whose pictures were cropped by a frontal face detector: the face fills the square, with
the chin near the lower edge. Crops of film frames must be framed in the same way, or accuracy drops. The constants of
`Framing` were measured by detecting faces in FER+ itself; benchmarks/framing.py repeats the measurement.

Coordinates are continuous, in pixels, y downwards: pixel (column i, row j) covers [i, i + 1) x [j, j + 1), its centre
is (i + 0.5, j + 0.5), and (0, 0) is the upper left corner of the picture. Boxes, landmarks and `frame_to_crop` follow
this convention, so that scaling a frame by 2 scales all coordinates by exactly 2.
"""

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from femae.errors import ConfigError, InputError, ModelError
from femae.types import Face, FaceCrop

__all__ = ["FERPLUS_FRAMING", "Framing", "crop_face", "crop_square", "whole_crop"]

_REDUCE_FROM: Final = 5.0  # frame pixels per crop pixel, from which the frame is first averaged in blocks
_MAX_REDUCE: Final = 64  # largest block size for which Pillow's integer arithmetic is exact
_MAX_COORDINATE: Final = 1e9  # pixels
_MAX_SIDE: Final = 3  # of a crop, as a multiple of the frame's longer side


@dataclass(frozen=True, kw_only=True, slots=True)
class Framing:
    """How the square of a crop is placed around a detected face. The defaults reproduce FER+ for RetinaFace boxes.

    Raises ConfigError when a value is out of its range.
    """

    side_per_box: float = 1.06
    """Side of the square divided by the geometric mean of the box's width and height (0.1..10). The geometric mean
    changes least when the mouth opens or smiles and when the head turns."""

    eyes_weight: float = 0.5
    """Weight (0..1) of the midpoint between the eyes in the anchor of the square; the rest is that of the box's centre.
    The eyes keep the square still when the mouth moves, the box keeps it on the head in profile views."""

    below_eyes: float = 0.11
    """Distance of the square's centre below the midpoint between the eyes, as a fraction of its side (-2..2)."""

    below_box: float = 0.0
    """Distance of the square's centre below the box's centre, as a fraction of its side (-2..2)."""

    keep_roll_deg: float = 5.0
    """Roll angle up to which a head stays tilted in its crop; any excess is rotated back. 0: heads are always upright;
    180: crops are never rotated. FER+ contains tilted heads (80 % within 12 degrees), so that on its own pictures this
    value makes no difference; for heads tilted by 20 degrees or more, smaller values are better."""

    def __post_init__(self) -> None:
        ranges = {"side_per_box": (0.1, 10), "eyes_weight": (0, 1), "keep_roll_deg": (0, 180)}
        for field in fields(self):
            value = getattr(self, field.name)
            low, high = ranges.get(field.name, (-2, 2))
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise ConfigError(f"framing: {field.name} is {value!r}, expected a number from {low} to {high}")

    def to_json(self) -> str:
        """The framing as one line of JSON, for the metadata of a model."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Framing":
        """The inverse of `to_json`; missing keys take their defaults. Raises ModelError for invalid JSON or values."""
        known = [field.name for field in fields(cls)]
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ModelError(f"the framing of the model is not JSON ({error}); export the model again") from error
        unknown = sorted(set(values) - set(known)) if isinstance(values, dict) else [text]
        if unknown:
            raise ModelError(f"the framing of the model holds {', '.join(unknown)}; expected only {', '.join(known)}")
        try:
            return cls(**values)
        except ConfigError as error:
            raise ModelError(f"the model's {error}; export the model again") from error


FERPLUS_FRAMING: Final = Framing()


def crop_square(face: Face, *, framing: Framing = FERPLUS_FRAMING) -> tuple[npt.NDArray[np.float64], float, float]:
    """The square of a face's crop: centre f64[2] (x, y) and side in frame pixels, rotation angle in radians.

    The angle is that of the crop's x axis in the frame, clockwise as displayed: it is positive for a head whose right
    eye (as seen) is lower. Landmarks are ignored where they are not finite or lie outside the box. Raises InputError
    when the box is not finite or has no area.
    """
    box = face.box_xyxy.astype(np.float64)
    width, height = box[2] - box[0], box[3] - box[1]
    if not (np.abs(box) < _MAX_COORDINATE).all() or width <= 0 or height <= 0:
        raise InputError(
            f"a face with the box {face.box_xyxy.tolist()} cannot be cropped: expected finite x1 < x2 and y1 < y2 "
            "in pixels; check the detector that returned it"
        )
    side = framing.side_per_box * math.sqrt(width * height)
    anchor, below, angle = (box[:2] + box[2:]) / 2, framing.below_box, 0.0
    points = _trusted_landmarks(face)
    if points is not None:
        eyes, weight = (points[0] + points[1]) / 2, framing.eyes_weight
        anchor = (1 - weight) * anchor + weight * eyes
        below = (1 - weight) * framing.below_box + weight * framing.below_eyes
        roll = _roll(points)
        angle = math.copysign(max(0.0, abs(roll) - math.radians(framing.keep_roll_deg)), roll)
    centre = anchor + below * side * np.array([-math.sin(angle), math.cos(angle)])
    return centre, side, angle


def crop_face(image: npt.NDArray[np.uint8], *, face: Face, size: int, framing: Framing = FERPLUS_FRAMING) -> FaceCrop:
    """Crop one face from a frame u8[H, W, 3] RGB to a square picture u8[size, size, 3].

    Larger faces are downsampled with an antialiasing filter (Lanczos), smaller ones upsampled (bicubic); beyond the
    frame's border its content is mirrored, as in training. `frame_to_crop` f32[2, 3] maps points of the frame to points
    of the crop, in the coordinates described above. Raises InputError as `crop_square` does, and for a box far larger
    than the frame.
    """
    centre, side, angle = crop_square(face, framing=framing)
    return _cut(image, face=face, centre=centre, side=side, angle=angle, size=size)


def whole_crop(image: npt.NDArray[np.uint8], *, size: int) -> FaceCrop:
    """Resize a picture u8[H, W, 3] RGB that is a face crop already to u8[size, size, 3], without detection.

    The aspect ratio is kept: the longer side fills the crop, and the shorter one is padded by mirroring, with the
    picture in the middle. (Upright boxes around faces come close to FER+ in this way; stretching would make faces
    wider.) The face's box is the whole picture, its score 1, without landmarks. Raises InputError for an empty picture.
    """
    height, width = image.shape[:2]
    if not height or not width:
        raise InputError(f"a picture of {width} x {height} pixels holds no face; expected at least 1 x 1")
    face = Face(box_xyxy=np.array([0, 0, width, height], np.float32), landmarks=None, score=1.0)
    centre = np.array([width / 2, height / 2])
    return _cut(image, face=face, centre=centre, side=float(max(width, height)), angle=0.0, size=size)


def _trusted_landmarks(face: Face) -> npt.NDArray[np.float64] | None:
    """Landmarks f64[5, 2]; None if there are none or they are implausible."""
    if face.landmarks is None or not np.isfinite(face.landmarks).all():
        return None
    points = face.landmarks.astype(np.float64)
    for point in ((points[0] + points[1]) / 2, (points[3] + points[4]) / 2):
        if not ((face.box_xyxy[:2] <= point) & (point <= face.box_xyxy[2:])).all():
            return None
    return points


def _roll(points: npt.NDArray[np.float64]) -> float:
    """Roll of a head in radians, from the vector between the eyes and the vector from the eyes to the mouth.

    The longer vector has more weight: in profile, the eyes almost coincide.
    """
    across = points[1] - points[0]
    down = (points[3] + points[4] - points[0] - points[1]) / 2
    return math.atan2(across[1] - down[0], across[0] + down[1])


def _frame_to_crop(centre: npt.NDArray[np.float64], *, side: float, angle: float, size: int) -> npt.NDArray[np.float64]:
    """Similarity transform f64[2, 3] that maps the square to [0, size) x [0, size)."""
    cos, sin = math.cos(angle) * size / side, math.sin(angle) * size / side
    linear = np.array([[cos, sin], [-sin, cos]])
    return np.column_stack([linear, size / 2 - linear @ centre])


def _mirrored(start: int, stop: int, length: int) -> npt.NDArray[np.intp]:
    """Indices of positions start..stop in a row of `length`, mirrored beyond both ends."""
    index = np.arange(start, stop) % (2 * length)
    return np.minimum(index, 2 * length - 1 - index)


def _region(
    image: npt.NDArray[np.uint8], *, centre: npt.NDArray[np.float64], half: float, margin: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    """The region of a frame around the square of half side `half`, and the centre in that region's coordinates."""
    x1, y1 = (math.floor(value - half) - margin for value in centre)
    x2, y2 = (math.ceil(value + half) + margin for value in centre)
    height, width = image.shape[:2]
    if x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height:
        part = image[y1:y2, x1:x2]
    else:
        rows, columns = _mirrored(y1, y2, height), _mirrored(x1, x2, width)
        part = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        part = part.take(rows - rows.min(), axis=0).take(columns - columns.min(), axis=1)
    return np.ascontiguousarray(part), centre - [x1, y1]


def _cut(
    image: npt.NDArray[np.uint8], *, face: Face, centre: npt.NDArray[np.float64], side: float, angle: float, size: int
) -> FaceCrop:
    """Crop and resample a square of the frame."""
    assert size >= 1 and image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
    if side > _MAX_SIDE * max(image.shape[:2]):
        raise InputError(
            f"a crop of {side:.0f} pixels a side about the box {face.box_xyxy.tolist()} is far larger than its picture "
            f"of {image.shape[1]} x {image.shape[0]}: box and picture do not belong together"
        )
    matrix = _frame_to_crop(centre, side=side, angle=angle, size=size).astype(np.float32)
    step = side / size  # frame pixels per crop pixel
    half = side / 2 * (abs(math.cos(angle)) + abs(math.sin(angle)))
    part, centre = _region(image, centre=centre, half=half, margin=math.ceil(4 * max(step, 1)))
    picture = Image.fromarray(part)
    if step >= _REDUCE_FROM:
        factor = min(_MAX_REDUCE, int(step / 2.5))
        picture, centre = picture.reduce(factor), centre / factor
        side, half = side / factor, half / factor
    if angle == 0:
        resample = Image.Resampling.LANCZOS if step > 1 else Image.Resampling.BICUBIC
        square = picture.resize((size, size), resample, box=(*(centre - side / 2), *(centre + side / 2)))
    else:
        square = _rotated(picture, centre=centre, side=side, half=half, angle=angle, size=size)
    return FaceCrop(face=face, image=np.asarray(square), frame_to_crop=matrix)


def _rotated(
    picture: Image.Image, *, centre: npt.NDArray[np.float64], side: float, half: float, angle: float, size: int
) -> Image.Image:
    """Resample a rotated square: downsample to twice the crop's resolution, rotate, then halve the size."""
    double = 2 * size
    step = max(1.0, side / double)
    side_px = math.ceil(2 * half / step) + 4
    reach = side_px * step / 2
    if step > 1:
        box = (*(centre - reach), *(centre + reach))
        picture = picture.resize((side_px, side_px), Image.Resampling.HAMMING, box=box)
        centre = np.full(2, side_px / 2)
    cos, sin = math.cos(angle) * side / double / step, math.sin(angle) * side / double / step
    offset_x, offset_y = centre[0] - (cos - sin) * size, centre[1] - (sin + cos) * size
    rotated = picture.transform(
        (double, double),
        Image.Transform.AFFINE,
        (cos, -sin, offset_x, sin, cos, offset_y),
        resample=Image.Resampling.BICUBIC,
    )
    return rotated.resize((size, size), Image.Resampling.LANCZOS)

"""Finds the faces of pictures and of frames of films, with the detector of `predict`.

`predict` searches a picture at every scale, for faces of any size. To find the one labelled face of a picture, that is
up to nine times as much work as needed:

- with a box of the data set, the detector runs around it, at the scale with the best landmarks;
- without a box, it runs at a long side of 320, which shows every face of at least a tenth of it, and once more at the
  best scale if the chosen face is small there;
- if that finds nothing, and with all_faces, the picture is searched at every scale.

In a film there is a full search at the first requested frame, then every two seconds; in between a single scale is used
that suits the smallest face of the last search (as in `predict`). If that finds nothing although the last full search
did, the frame is searched in full, so that no labelled frame is lost for speed. The result depends on the frames alone,
never on timing.

Of several faces in a picture, the labelled one is chosen:

- With a box of the data set: the face that overlaps it most, if the intersection over union is at least 0.25 (data sets
  draw boxes tightly or with hair and shoulders, so the limit is low); otherwise the picture is left out.
- Without a box: the face with the largest `area * (1 - distance)`, where distance is that of the box's centre from the
  picture's centre as a share of half the diagonal (0 centre, 1 corner). In a tie the highest score, then the leftmost.
- `all_faces`: every face, in that order; only for pictures without labels, since a label refers to one face.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from femae.data.prepare.plan import PrepareSettings
from femae.faces.load import load_detector
from femae.faces.scales import choose_long_side
from femae.types import Face

__all__ = ["MIN_BOX_IOU", "FaceFinder", "box_iou", "choose_faces"]

Box = tuple[float, float, float, float]
_SEARCH_EVERY_S: Final = 2.0
_COARSE_SIDE: Final = 320  # long side in pixels
_EXACT_PX: Final = 96  # height of a face from which landmarks are exact, see faces/scales.py
_DEFAULT_FACE_PX: Final = 64  # expected face size if the last search found none
MIN_BOX_IOU: Final = 0.25
NO_FACE: Final = "no face found"
NO_FACE_AT_BOX: Final = "no face at the data set's own box"


class FaceFinder:
    """Detects faces; the detector is loaded on first use, with one thread. Not thread-safe."""

    def __init__(self, settings: PrepareSettings, *, detector_path: Path | None) -> None:
        self._settings, self._path = settings, detector_path
        self._detector: Any = None
        self._film: Path | None = None
        self._last: tuple[int, list[Face]] = (0, [])  # frame and its faces
        self._searched_s = 0.0
        self._smallest_px: float | None = None  # of the last full search; None: it found nothing

    def in_picture(
        self, image: npt.NDArray[np.uint8], *, box_xyxy: Box | None, all_faces: bool
    ) -> tuple[list[Face], str]:
        """The faces to keep of a picture u8[H, W, 3] RGB, and the cause if there is none (else empty)."""
        height, width = image.shape[:2]

        def choose(faces: list[Face]) -> tuple[list[Face], str]:
            return choose_faces(faces, width=width, height=height, box_xyxy=box_xyxy, all_faces=all_faces)

        if not all_faces:
            near = [np.asarray(box_xyxy, np.float32)] if box_xyxy is not None else []
            if not near:
                near = self._too_coarse(chosen := choose(self._detect(image, long_side=_COARSE_SIDE))[0], image)
                if chosen and not near:
                    return chosen, ""
            if near and (found := choose(self._detect_near(image, near))[0]):
                return found, ""
        return choose(self._detect(image, long_side=None))

    def _too_coarse(self, faces: list[Face], image: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
        """Boxes f32[4] of faces that are too small for exact landmarks at the coarse scale."""
        scale = _COARSE_SIDE / max(image.shape[:2])
        return [face.box_xyxy for face in faces if float(face.box_xyxy[3] - face.box_xyxy[1]) * scale < _EXACT_PX]

    def _detect_near(self, image: npt.NDArray[np.uint8], boxes: list[npt.NDArray[np.float32]]) -> list[Face]:
        return self._without_small(self._get_detector().detect_near(image, boxes_xyxy=np.stack(boxes)))

    def in_frame(self, image: npt.NDArray[np.uint8], *, film: Path, frame: int, time_s: float | None) -> list[Face]:
        """All faces in a frame of a film; frames of one film must be passed in order."""
        if film == self._film and frame == self._last[0]:
            return self._last[1]
        now = time_s if time_s is not None else frame / 25
        faces: list[Face] = []
        searched = film != self._film or not 0 <= now - self._searched_s < _SEARCH_EVERY_S
        if not searched:
            height, width = image.shape[:2]
            known_px = self._smallest_px or _DEFAULT_FACE_PX
            faces = self._detect(image, long_side=choose_long_side(width, height, smallest_face_px=known_px))
            searched = not faces and self._smallest_px is not None
        if searched:
            faces = self._detect(image, long_side=None)
            heights = [float(face.box_xyxy[3] - face.box_xyxy[1]) for face in faces]
            self._smallest_px, self._searched_s = min(heights, default=None), now
        self._film, self._last = film, (frame, faces)
        return faces

    def _get_detector(self) -> Any:
        if self._detector is None:
            threshold = self._settings.detection_threshold
            self._detector = load_detector(self._path, num_threads=1, score_threshold=threshold)
        return self._detector

    def _detect(self, image: npt.NDArray[np.uint8], *, long_side: int | None) -> list[Face]:
        return self._without_small(self._get_detector().detect(image[None], long_side=long_side)[0])

    def _without_small(self, faces: list[Face]) -> list[Face]:
        smallest = self._settings.min_face
        return [face for face in faces if (face.box_xyxy[2:] - face.box_xyxy[:2]).min() >= smallest]


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
    """The faces to keep of a picture of this size, and the cause if there is none (else empty)."""
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

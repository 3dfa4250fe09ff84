"""Faces of pictures and of the frames of films, with the detector that `predict` uses.

`predict` searches a picture at every scale, for faces of any size. Where one face of a picture is wanted, that is up to
nine times as much work as needed:

- the data set gives a box: the detector looks around it, at the scale where landmarks are best;
- it gives none: the picture is looked at with a long side of 320, which shows every face of a tenth of it or more, and
  the chosen face once more at the best scale when it is small there;
- where that finds nothing, and with all_faces, the picture is searched at every scale.

In a film a full search is made at the first frame asked for, then every two seconds; in between one scale is used that
shows the smallest face of the last search well (as `predict` does). A frame where that finds nothing, though the last
search had, is searched in full, so that no labelled frame is lost for speed. The outcome depends on the frames alone,
never on timing.

Of several faces in a picture, the one its label speaks of:

- The data set gives a box: the face that overlaps it most, if the intersection over union is at least 0.25 (data sets
  draw boxes tight or with hair and shoulders, so more cannot be asked); else the picture is left out.
- It gives none: the face with the largest `area * (1 - distance)`, where distance is that of the box's centre from the
  picture's centre as a share of half the diagonal (0 centre, 1 corner). Of equals the more certain, then the left one.
- `all_faces`: every face, in that order of weight; only of pictures without any label, since a label speaks of one.
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
_COARSE: Final = 320  # long side in pixels
_EXACT_PX: Final = 96  # height of a face from which landmarks are exact, as faces/scales.py says
_NOTHING_KNOWN_PX: Final = 64  # size of face that is looked for where the last search found none
MIN_BOX_IOU: Final = 0.25
NO_FACE: Final = "no face found"
NO_FACE_AT_BOX: Final = "no face at the data set's own box"


class FaceFinder:
    """Opens the detector when it is first needed, with one thread. Not to be shared between threads."""

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
        """u8[H, W, 3] RGB -> the faces to keep, and the cause when there is none (else empty)."""
        height, width = image.shape[:2]

        def choose(faces: list[Face]) -> tuple[list[Face], str]:
            return choose_faces(faces, width=width, height=height, box_xyxy=box_xyxy, all_faces=all_faces)

        if not all_faces:
            near = [np.asarray(box_xyxy, np.float32)] if box_xyxy is not None else []
            if not near:
                near = self._needing_a_closer_look(chosen := choose(self._detect(image, long_side=_COARSE))[0], image)
                if chosen and not near:
                    return chosen, ""
            if near and (found := choose(self._around(image, near))[0]):
                return found, ""
        return choose(self._detect(image, long_side=None))

    def _needing_a_closer_look(self, faces: list[Face], image: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
        """Boxes of faces that were too small at the coarse scale for exact landmarks."""
        scale = _COARSE / max(image.shape[:2])
        return [face.box_xyxy for face in faces if float(face.box_xyxy[3] - face.box_xyxy[1]) * scale < _EXACT_PX]

    def _around(self, image: npt.NDArray[np.uint8], boxes: list[npt.NDArray[np.float32]]) -> list[Face]:
        return self._large_enough(self._open().detect_near(image, boxes_xyxy=np.stack(boxes)))

    def in_frame(self, image: npt.NDArray[np.uint8], *, film: Path, frame: int, time_s: float | None) -> list[Face]:
        """The same for a frame of a film; frames of one film must come in order."""
        if film == self._film and frame == self._last[0]:
            return self._last[1]
        now = time_s if time_s is not None else frame / 25
        faces: list[Face] = []
        searched = film != self._film or not 0 <= now - self._searched_s < _SEARCH_EVERY_S
        if not searched:
            height, width = image.shape[:2]
            known_px = self._smallest_px or _NOTHING_KNOWN_PX
            faces = self._detect(image, long_side=choose_long_side(width, height, smallest_face_px=known_px))
            searched = not faces and self._smallest_px is not None
        if searched:
            faces = self._detect(image, long_side=None)
            heights = [float(face.box_xyxy[3] - face.box_xyxy[1]) for face in faces]
            self._smallest_px, self._searched_s = min(heights, default=None), now
        self._film, self._last = film, (frame, faces)
        return faces

    def _open(self) -> Any:
        if self._detector is None:
            threshold = self._settings.detection_threshold
            self._detector = load_detector(self._path, num_threads=1, score_threshold=threshold)
        return self._detector

    def _detect(self, image: npt.NDArray[np.uint8], *, long_side: int | None) -> list[Face]:
        return self._large_enough(self._open().detect(image[None], long_side=long_side)[0])

    def _large_enough(self, faces: list[Face]) -> list[Face]:
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

"""Pictures of any size for detectors that find only faces of some sizes.

Three ways: at several scales, for pictures and from time to time in a film; at one scale, chosen so that the known
faces are seen well; and in small regions around known faces. The numbers behind the constants are in
benchmarks/results/detector_scales.md. `FaceDetector` is what it asks of a detector.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from femae.faces.nms import group_overlapping, iou_of_one, share_inside
from femae.faces.pixels import brighten, brightening, cut_region, resize_rgb
from femae.types import Face

__all__ = ["MAX_LONG_SIDE", "FaceDetector", "ScaledDetector", "choose_long_side", "search_long_sides"]

# Heights of faces in pixels, as the network sees them.
_FOUND_PX: Final = 32.0  # from here on a face is found nearly always
_KEPT_PX: Final = 40.0  # and from here on always
_EXACT_PX: Final = 112.0  # from here on landmarks no longer move with the scale
_BEST_PX: Final = 128.0  # where they are best
_SURE_PX: Final = (48.0, 320.0)  # a real face is found at every scale that shows it in this range
_PARTS_PX: Final = 450.0  # above, eyes and cheeks of a face pass for faces

MAX_LONG_SIDE: Final = 2560  # of the finest scale of a search, pixels
_COARSEST_LONG_SIDE: Final = 320
_STEP: Final = 2.0  # between the scales of a search
_SMALLEST_FACE_PX: Final = 20.0  # a search is made fine enough for faces of this size in the picture
_GLANCE: Final = 4.0  # how much coarser the second look is that a large single scale gets, for faces with parts
_TRUST: Final = 0.5  # how fast, in the logarithm of the size, places are trusted less away from _BEST_PX
_BORDER: Final = 0.2  # of the short side, put around the coarsest scale for faces that the border cuts
_REGION: Final = 2.2  # side of a region around a known face, in sides of the face
_SAME_FACE_IOU: Final = 0.2  # a face that overlaps its last place by more than this is the same

_Picture = npt.NDArray[np.uint8]


class FaceDetector(Protocol):
    """Finds the faces of pictures at one scale, as they are given. Many threads may call one detector at once."""

    @property
    def name(self) -> str:
        """Kind of network in one word, for messages and tables."""

    @property
    def input_hw(self) -> tuple[int, int] | None:
        """Largest height and width in pixels that `detect` takes; None: any."""

    def detect(self, images: npt.NDArray[np.uint8]) -> list[list[Face]]:
        """u8[B, H, W, 3] RGB -> for each picture its faces by falling score, in pixels of that picture.

        A picture's faces do not depend on the others of the batch.
        """


def choose_long_side(width: int, height: int, *, smallest_face_px: float) -> int:
    """Long side in pixels to which a frame of width x height is brought so that its known faces are seen well.

    `smallest_face_px` is the height of the smallest known face in pixels of the frame. It becomes some 112 pixels
    high, where landmarks are as good as at full size. For that alone a frame is not enlarged above 640; for the 40
    pixels at which a face is found for certain it is. The result is a multiple of 32 from 128 to MAX_LONG_SIDE.
    """
    long_side = max(width, height)
    exact = min(long_side * _EXACT_PX / smallest_face_px, max(long_side, 640))
    wanted = max(exact, long_side * _KEPT_PX / smallest_face_px)
    return int(np.clip(round(wanted / 32) * 32, 128, MAX_LONG_SIDE))


def search_long_sides(width: int, height: int, *, max_long_side: float = MAX_LONG_SIDE) -> list[int]:
    """Long sides in pixels, largest first, that together show faces from 20 pixels to the whole picture well."""
    coarsest = min(_COARSEST_LONG_SIDE, max_long_side / _STEP)
    finest = max(width, height) * _FOUND_PX / _SMALLEST_FACE_PX
    sides = [min(max(finest, coarsest), max_long_side)]
    while sides[-1] > coarsest * 1.2:
        sides.append(max(sides[-1] / _STEP, coarsest))
    return [int(side) for side in sides]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sight:
    """A face as seen at one scale."""

    face: Face  # in pixels of the picture
    scale: float

    @property
    def seen_px(self) -> float:
        return float(self.face.box_xyxy[3] - self.face.box_xyxy[1]) * self.scale


class ScaledDetector:
    """A detector for pictures of any size and brightness. Many threads may call it at once.

    Faces score more than `score_threshold`. The detector itself should give weaker ones too: a search asks several
    scales, and a face that more than half of them have seen, however weakly, needs that score at one of them only.
    """

    def __init__(
        self,
        detector: FaceDetector,
        *,
        score_threshold: float = 0.0,
        nms_threshold: float = 0.4,
        device: str = "cpu",
    ) -> None:
        """`device`: where the detector runs, for those who ask."""
        self._detector, self.device = detector, device
        self._score_threshold = score_threshold
        self._nms_threshold = nms_threshold

    @property
    def name(self) -> str:
        """Kind of network in one word."""
        return self._detector.name

    def detect(
        self, images: Iterable[_Picture], *, long_side: int | None = None, max_long_side: int = MAX_LONG_SIDE
    ) -> list[list[Face]]:
        """Pictures u8[H, W, 3] RGB of any sizes -> for each its faces by falling score, in pixels of that picture.

        Without `long_side` each picture is searched at several scales, the finest at most `max_long_side`: small, large
        and cut faces are found, at up to ten times the cost. With `long_side` (choose_long_side gives it) it is looked
        at once at that size. A picture's faces do not depend on the others.
        """
        if long_side is None:
            return [self._search(image, max_long_side=max_long_side) for image in images]
        return [self._look_once(image, long_side=long_side) for image in images]

    def detect_near(self, image: _Picture, *, boxes_xyxy: npt.NDArray[np.float32]) -> list[Face]:
        """Find known faces again: look only around boxes f32[N, 4], in pixels of the picture u8[H, W, 3] RGB.

        At most one face for each box, none where it is gone or has moved by more than half its size; by falling score.
        The cost grows with the number of boxes and not with the picture: one box costs as much as a whole picture of
        246x246. New faces are not seen.
        """
        gain = brightening(image)
        found = [face for box in boxes_xyxy for face in self._in_region(image, box_xyxy=box, gain=gain)]
        return self._merge([_Sight(face=face, scale=1.0) for face in found], scales=[])

    def _search(self, image: _Picture, *, max_long_side: int) -> list[Face]:
        """Faces at several scales."""
        height, width = image.shape[:2]
        finest = min(float(max_long_side), max(width, height) * self._largest_scale(image))
        sides = search_long_sides(width, height, max_long_side=finest)
        borders = [0.0] * (len(sides) - 1) + [_BORDER]
        scales = [
            min(side / max(width, height), self._largest_scale(image, border=border))
            for side, border in zip(sides, borders, strict=True)
        ]
        sights: list[_Sight] = []
        gain = brightening(image)
        for scale, border in zip(scales, borders, strict=True):
            sights += self._at_scale(image, scale=scale, gain=gain, border=border)
        return self._merge(sights, scales=scales)

    def _look_once(self, image: _Picture, *, long_side: int) -> list[Face]:
        """Faces at one scale, and at a much coarser one, at a sixteenth of the cost, where faces may be too large."""
        height, width = image.shape[:2]
        scale = min(long_side / max(width, height), self._largest_scale(image))
        gain = brightening(image)
        sights = self._at_scale(image, scale=scale, gain=gain)
        if min(width, height) * scale > _PARTS_PX:
            sights += self._at_scale(image, scale=scale / _GLANCE, gain=gain)
        return self._merge(sights, scales=[])

    def _largest_scale(self, image: _Picture, *, border: float = 0.0) -> float:
        """Factor at which a picture and its border just fit a network of fixed size; infinite for others."""
        if self._detector.input_hw is None:
            return float("inf")
        height, width = image.shape[:2]
        margin = 2 * border * min(width, height)
        fits = (self._detector.input_hw[0] / (height + margin), self._detector.input_hw[1] / (width + margin))
        return float(min(fits))

    def _at_scale(self, image: _Picture, *, scale: float, gain: float, border: float = 0.0) -> list[_Sight]:
        """Faces at one scale, brightened by `gain`; `border` is added around the picture, in short sides."""
        height, width = image.shape[:2]
        small_width, small_height = max(1, round(width * scale)), max(1, round(height * scale))
        pad = int(border * min(small_width, small_height))
        small = brighten(resize_rgb(image, width=small_width, height=small_height), factor=gain)
        seen = cut_region(small, left=-pad, top=-pad, width=small_width + 2 * pad, height=small_height + 2 * pad)
        to_frame = np.array([width / small_width, height / small_height], np.float32)
        faces = self._detector.detect(seen[None])[0]
        return [_Sight(face=_mapped(face, scale=to_frame, offset=-pad * to_frame), scale=scale) for face in faces]

    def _in_region(self, image: _Picture, *, box_xyxy: npt.NDArray[np.float32], gain: float) -> list[Face]:
        """The one face, or none, that lies where a known face was."""
        side = max(8, round(_REGION * float(max(box_xyxy[2:] - box_xyxy[:2]))))
        left, top = (round(float(middle) - side / 2) for middle in (box_xyxy[:2] + box_xyxy[2:]) / 2)
        seen_px = min(round(_REGION * _EXACT_PX), *(self._detector.input_hw or (MAX_LONG_SIDE, MAX_LONG_SIDE)))
        region = cut_region(image, left=left, top=top, width=side, height=side)
        seen = brighten(resize_rgb(region, width=seen_px, height=seen_px), factor=gain)
        faces = [face for face in self._detector.detect(seen[None])[0] if face.score > self._score_threshold]
        if not faces:
            return []
        scale, offset = np.full(2, side / seen_px, np.float32), np.array([left, top], np.float32)
        moved = [_mapped(face, scale=scale, offset=offset) for face in faces]
        overlaps = iou_of_one(box_xyxy, np.stack([face.box_xyxy for face in moved]))
        best = int(np.argmax(overlaps))
        return [moved[best]] if overlaps[best] > _SAME_FACE_IOU else []

    def _merge(self, sights: list[_Sight], *, scales: list[float]) -> list[Face]:
        """One face for each group of overlapping sights: the best score, the mean place. `scales`: all looked at."""
        sights = _without_parts(sights, score_threshold=self._score_threshold)
        if not sights:
            return []
        boxes = np.stack([sight.face.box_xyxy for sight in sights])
        scores = np.array([sight.face.score for sight in sights], np.float32)
        groups = group_overlapping(boxes, scores, iou_threshold=self._nms_threshold)
        grouped = [[sights[one] for one in group] for group in groups if scores[group[0]] > self._score_threshold]
        return [_mean_face(group) for group in grouped if _is_confirmed(group, scales=scales)]


def _without_parts(sights: list[_Sight], *, score_threshold: float) -> list[_Sight]:
    """Leave out what a fine scale found inside a face too large for it, where a coarser scale found that face whole."""
    if len(sights) < 2:
        return sights
    boxes = np.stack([sight.face.box_xyxy for sight in sights])
    scales = np.array([sight.scale for sight in sights])
    kept = np.ones(len(sights), bool)
    for one in np.argsort(scales, kind="stable"):
        too_large = (scales > scales[one]) & (scales * (boxes[one, 3] - boxes[one, 1]) > _PARTS_PX)
        if kept[one] and sights[one].face.score > score_threshold and too_large.any():
            kept &= ~(too_large & (share_inside(boxes, boxes[one]) > 0.5))
    return [sight for sight, stays in zip(sights, kept, strict=True) if stays]


def _is_confirmed(group: list[_Sight], *, scales: list[float]) -> bool:
    """Whether more than half of the scales that show this face in the sure range have found it."""
    height = group[0].seen_px / group[0].scale
    sure = [scale for scale in scales if _SURE_PX[0] <= height * scale <= _SURE_PX[1]]
    found = {sight.scale for sight in group}
    return not sure or 2 * sum(scale in found for scale in sure) > len(sure)


def _mean_face(group: list[_Sight]) -> Face:
    """One face seen at several scales, the best score first -> that score and the weighted mean of its places."""
    best = group[0].face
    if len(group) == 1:
        return best
    distances = np.log(np.maximum([sight.seen_px for sight in group], 1.0) / _BEST_PX)
    weights = (np.exp(-0.5 * (distances / _TRUST) ** 2) + 1e-9) * [sight.face.score for sight in group]
    box = np.average([sight.face.box_xyxy for sight in group], axis=0, weights=weights)
    points = [sight.face.landmarks for sight in group if sight.face.landmarks is not None]
    landmarks = np.average(points, axis=0, weights=weights).astype(np.float32) if points else None
    return Face(box_xyxy=box.astype(np.float32), landmarks=landmarks, score=best.score)


def _mapped(face: Face, *, scale: npt.NDArray[np.float32], offset: npt.NDArray[np.float32]) -> Face:
    """A face of a scaled picture in pixels of the frame: frame = scaled * scale + offset, both f32[2] (x, y)."""
    landmarks = None if face.landmarks is None else face.landmarks * scale + offset
    return replace(face, box_xyxy=face.box_xyxy * np.tile(scale, 2) + np.tile(offset, 2), landmarks=landmarks)

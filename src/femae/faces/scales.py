"""Detects faces of any size with detectors that find only a limited range of sizes.

There are three ways: at several scales, for single pictures and now and then in a film; at one scale, chosen to suit
the known faces; and in small regions around known faces. The measurements behind the constants are in
benchmarks/results/detector_scales.md. `FaceDetector` is the protocol of the underlying detectors.
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

# Heights of faces in pixels of the network's input.
_FOUND_PX: Final = 32.0  # from this size, a face is nearly always found
_KEPT_PX: Final = 40.0  # from this size, a face is always found
_EXACT_PX: Final = 112.0  # from this size, landmarks no longer depend on the scale
_BEST_PX: Final = 128.0  # size at which boxes and landmarks are most accurate
_SURE_PX: Final = (48.0, 320.0)  # a real face is found at every scale at which its size is in this range
_PARTS_PX: Final = 450.0  # above this size, parts of a face (eyes, cheeks) are detected as faces

MAX_LONG_SIDE: Final = 2560  # of the finest scale of a search, pixels
_COARSEST_LONG_SIDE: Final = 320
_STEP: Final = 2.0  # ratio of successive scales of a search
_SMALLEST_FACE_PX: Final = 20.0  # in the picture; the finest scale of a search shows such a face at _FOUND_PX
_COARSE_FACTOR: Final = 4.0  # ratio of the single scale to the coarse scale added for faces above _PARTS_PX
_SIZE_SIGMA: Final = 0.5  # of the Gaussian weight of a detection over the logarithm of its size relative to _BEST_PX
_BORDER: Final = 0.2  # padding of the coarsest scale, in short sides, for faces cut off by the border
_REGION: Final = 2.2  # side of the region around a known face, in sides of the face
_SAME_FACE_IOU: Final = 0.2  # a detection with a larger IoU with the known box is the same face

_Picture = npt.NDArray[np.uint8]


class FaceDetector(Protocol):
    """Detects faces in pictures at their given scale; may be called from several threads at once."""

    @property
    def name(self) -> str:
        """Kind of network in one word, for messages and tables."""

    @property
    def input_hw(self) -> tuple[int, int] | None:
        """Largest height and width in pixels that `detect` accepts; None: any."""

    def detect(self, images: npt.NDArray[np.uint8]) -> list[list[Face]]:
        """Faces of each picture of u8[B, H, W, 3] RGB by descending score, in pixels of that picture.

        A picture's result does not depend on the others of the batch.
        """


def choose_long_side(width: int, height: int, *, smallest_face_px: float) -> int:
    """Long side in pixels to which a width x height frame should be resized to detect its known faces well.

    `smallest_face_px` is the height of the smallest known face in pixels of the frame. It should become 112 pixels
    high, where landmarks are as accurate as at full size, but for that a frame is not enlarged beyond 640 pixels; it is
    enlarged further only to reach 40 pixels, at which a face is always found. Returns a multiple of 32 from 128 to
    MAX_LONG_SIDE.
    """
    long_side = max(width, height)
    exact = min(long_side * _EXACT_PX / smallest_face_px, max(long_side, 640))
    wanted = max(exact, long_side * _KEPT_PX / smallest_face_px)
    return int(np.clip(round(wanted / 32) * 32, 128, MAX_LONG_SIDE))


def search_long_sides(width: int, height: int, *, max_long_side: float = MAX_LONG_SIDE) -> list[int]:
    """Long sides in pixels, largest first, of the scales that together cover faces from 20 pixels to the full size."""
    coarsest = min(_COARSEST_LONG_SIDE, max_long_side / _STEP)
    finest = max(width, height) * _FOUND_PX / _SMALLEST_FACE_PX
    sides = [min(max(finest, coarsest), max_long_side)]
    while sides[-1] > coarsest * 1.2:
        sides.append(max(sides[-1] / _STEP, coarsest))
    return [int(side) for side in sides]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Detection:
    """A face detected at one scale."""

    face: Face  # in pixels of the picture
    scale: float

    @property
    def input_px(self) -> float:
        """Height of the face in pixels of the network's input."""
        return float(self.face.box_xyxy[3] - self.face.box_xyxy[1]) * self.scale


class ScaledDetector:
    """A detector for pictures of any size and brightness; may be called from several threads at once.

    It returns faces whose score exceeds `score_threshold`. The underlying detector should return weaker ones as well: a
    search accepts a face that exceeds the threshold at one scale only if more than half of the scales that suit its
    size have detected it, with any score.
    """

    def __init__(
        self,
        detector: FaceDetector,
        *,
        score_threshold: float = 0.0,
        nms_threshold: float = 0.4,
        device: str = "cpu",
    ) -> None:
        """`device`: where the detector runs, for information."""
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
        """Faces of each picture u8[H, W, 3] RGB by descending score, in pixels of that picture; sizes may differ.

        Without `long_side`, each picture is searched at several scales, the finest at most `max_long_side`: this finds
        small, large and cut-off faces, at up to ten times the cost. With `long_side` (see choose_long_side), detection
        runs once at that size. A picture's result does not depend on the others.
        """
        if long_side is None:
            return [self._search(image, max_long_side=max_long_side) for image in images]
        return [self._detect_once(image, long_side=long_side) for image in images]

    def detect_near(self, image: _Picture, *, boxes_xyxy: npt.NDArray[np.float32]) -> list[Face]:
        """Detect known faces again, only around boxes f32[N, 4] in pixels of the picture u8[H, W, 3] RGB.

        Returns at most one face for each box, none if it is gone or has moved by more than half its size, by descending
        score. New faces are not found. The cost depends on the number of boxes, not on the size of the picture: a box
        costs as much as a picture of 246x246 pixels.
        """
        gain = brightening(image)
        found = [face for box in boxes_xyxy for face in self._in_region(image, box_xyxy=box, gain=gain)]
        return self._merge([_Detection(face=face, scale=1.0) for face in found], scales=[])

    def _search(self, image: _Picture, *, max_long_side: int) -> list[Face]:
        """Detect at several scales and merge the results."""
        height, width = image.shape[:2]
        finest = min(float(max_long_side), max(width, height) * self._largest_scale(image))
        sides = search_long_sides(width, height, max_long_side=finest)
        borders = [0.0] * (len(sides) - 1) + [_BORDER]
        scales = [
            min(side / max(width, height), self._largest_scale(image, border=border))
            for side, border in zip(sides, borders, strict=True)
        ]
        detections: list[_Detection] = []
        gain = brightening(image)
        for scale, border in zip(scales, borders, strict=True):
            detections += self._at_scale(image, scale=scale, gain=gain, border=border)
        return self._merge(detections, scales=scales)

    def _detect_once(self, image: _Picture, *, long_side: int) -> list[Face]:
        """Detect at one scale and, if faces may be too large for it, also at a coarser one (1/16 of the cost)."""
        height, width = image.shape[:2]
        scale = min(long_side / max(width, height), self._largest_scale(image))
        gain = brightening(image)
        detections = self._at_scale(image, scale=scale, gain=gain)
        if min(width, height) * scale > _PARTS_PX:
            detections += self._at_scale(image, scale=scale / _COARSE_FACTOR, gain=gain)
        return self._merge(detections, scales=[])

    def _largest_scale(self, image: _Picture, *, border: float = 0.0) -> float:
        """Largest scale at which a picture with its border fits the network's fixed input size; inf without one."""
        if self._detector.input_hw is None:
            return float("inf")
        height, width = image.shape[:2]
        margin = 2 * border * min(width, height)
        fits = (self._detector.input_hw[0] / (height + margin), self._detector.input_hw[1] / (width + margin))
        return float(min(fits))

    def _at_scale(self, image: _Picture, *, scale: float, gain: float, border: float = 0.0) -> list[_Detection]:
        """Detect at one scale, brightened by `gain`, with `border` (in short sides) padded around the picture."""
        height, width = image.shape[:2]
        small_width, small_height = max(1, round(width * scale)), max(1, round(height * scale))
        pad = int(border * min(small_width, small_height))
        small = brighten(resize_rgb(image, width=small_width, height=small_height), factor=gain)
        padded = cut_region(small, left=-pad, top=-pad, width=small_width + 2 * pad, height=small_height + 2 * pad)
        to_frame = np.array([width / small_width, height / small_height], np.float32)
        faces = self._detector.detect(padded[None])[0]
        return [_Detection(face=_mapped(face, scale=to_frame, offset=-pad * to_frame), scale=scale) for face in faces]

    def _in_region(self, image: _Picture, *, box_xyxy: npt.NDArray[np.float32], gain: float) -> list[Face]:
        """Detect around a known face; returns the face that overlaps its box most, or none."""
        side = max(8, round(_REGION * float(max(box_xyxy[2:] - box_xyxy[:2]))))
        left, top = (round(float(middle) - side / 2) for middle in (box_xyxy[:2] + box_xyxy[2:]) / 2)
        input_px = min(round(_REGION * _EXACT_PX), *(self._detector.input_hw or (MAX_LONG_SIDE, MAX_LONG_SIDE)))
        region = cut_region(image, left=left, top=top, width=side, height=side)
        resized = brighten(resize_rgb(region, width=input_px, height=input_px), factor=gain)
        faces = [face for face in self._detector.detect(resized[None])[0] if face.score > self._score_threshold]
        if not faces:
            return []
        scale, offset = np.full(2, side / input_px, np.float32), np.array([left, top], np.float32)
        moved = [_mapped(face, scale=scale, offset=offset) for face in faces]
        overlaps = iou_of_one(box_xyxy, np.stack([face.box_xyxy for face in moved]))
        best = int(np.argmax(overlaps))
        return [moved[best]] if overlaps[best] > _SAME_FACE_IOU else []

    def _merge(self, detections: list[_Detection], *, scales: list[float]) -> list[Face]:
        """One face for each group of overlapping detections; `scales` are those searched, to confirm faces by."""
        detections = _without_parts(detections, score_threshold=self._score_threshold)
        if not detections:
            return []
        boxes = np.stack([detection.face.box_xyxy for detection in detections])
        scores = np.array([detection.face.score for detection in detections], np.float32)
        groups = group_overlapping(boxes, scores, iou_threshold=self._nms_threshold)
        grouped = [[detections[one] for one in group] for group in groups if scores[group[0]] > self._score_threshold]
        return [_mean_face(group) for group in grouped if _is_confirmed(group, scales=scales)]


def _without_parts(detections: list[_Detection], *, score_threshold: float) -> list[_Detection]:
    """Drop parts of faces: detections at a scale too fine for a face, inside that face as found at a coarser scale."""
    if len(detections) < 2:
        return detections
    boxes = np.stack([detection.face.box_xyxy for detection in detections])
    scales = np.array([detection.scale for detection in detections])
    kept = np.ones(len(detections), bool)
    for one in np.argsort(scales, kind="stable"):
        too_large = (scales > scales[one]) & (scales * (boxes[one, 3] - boxes[one, 1]) > _PARTS_PX)
        if kept[one] and detections[one].face.score > score_threshold and too_large.any():
            kept &= ~(too_large & (share_inside(boxes, boxes[one]) > 0.5))
    return [detection for detection, stays in zip(detections, kept, strict=True) if stays]


def _is_confirmed(group: list[_Detection], *, scales: list[float]) -> bool:
    """Whether more than half of the scales at which this face has a size in _SURE_PX have detected it."""
    height = group[0].input_px / group[0].scale
    sure = [scale for scale in scales if _SURE_PX[0] <= height * scale <= _SURE_PX[1]]
    found = {detection.scale for detection in group}
    return not sure or 2 * sum(scale in found for scale in sure) > len(sure)


def _mean_face(group: list[_Detection]) -> Face:
    """Merge detections of one face, best first: the best score, and the weighted mean of boxes and landmarks."""
    best = group[0].face
    if len(group) == 1:
        return best
    distances = np.log(np.maximum([detection.input_px for detection in group], 1.0) / _BEST_PX)
    weights = (np.exp(-0.5 * (distances / _SIZE_SIGMA) ** 2) + 1e-9) * [detection.face.score for detection in group]
    box = np.average([detection.face.box_xyxy for detection in group], axis=0, weights=weights)
    points = [detection.face.landmarks for detection in group if detection.face.landmarks is not None]
    landmarks = np.average(points, axis=0, weights=weights).astype(np.float32) if points else None
    return Face(box_xyxy=box.astype(np.float32), landmarks=landmarks, score=best.score)


def _mapped(face: Face, *, scale: npt.NDArray[np.float32], offset: npt.NDArray[np.float32]) -> Face:
    """Map a face from a scaled picture to the frame: frame = scaled * scale + offset, both f32[2] (x, y)."""
    landmarks = None if face.landmarks is None else face.landmarks * scale + offset
    return replace(face, box_xyxy=face.box_xyxy * np.tile(scale, 2) + np.tile(offset, 2), landmarks=landmarks)

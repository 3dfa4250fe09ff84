"""Faces of every frame: detection on key frames, linear interpolation between them where that is safe.

A film is divided into short segments from one key frame to the next. If both ends show the same faces in nearly the
same places and no cut lies between, the frames inside get interpolated boxes and landmarks; otherwise each of them is
detected as well. Every two seconds, and after each cut, the detector runs at several scales; otherwise at the one that
resolves the smallest known face. The result of the two-second scan is used eight key frames later, so that no thread
waits for it. A low-scoring face that is in neither neighbouring frame is a false detection (a hand, a fold of cloth)
and is dropped.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from femae.config.predict import DetectConfig
from femae.faces.nms import iou_of_one
from femae.faces.scales import ScaledDetector, choose_long_side
from femae.inference.parallel import ordered_map
from femae.types import Face, Frame

__all__ = [
    "DetectedFrame",
    "detect_film",
    "detect_live",
    "detect_pictures",
    "frames_in_flight",
    "whole_pictures",
]


class DetectedFrame(NamedTuple):
    """A frame and its faces; `redetect`, set where the faces are only interpolated, detects in this very frame."""

    frame: Frame
    faces: list[Face]
    redetect: Callable[[], list[Face]] | None = None


FULL_EVERY_S = 2.0  # seconds between two scans at all scales
FULL_DELAY = 8  # key frames until the result of such a scan is used
MAX_INSIDE_S = 0.15  # maximum time from a key frame to a frame of its segment: a head turns in a third of a second
CUT_LEVEL = 24.0  # mean change of gray levels from one frame to the next that counts as a cut
EMPTY_LONG_SIDE = 640  # pixels; the scale between two full scans while no face is known
WEAK_SCORE = 0.9  # a face that scores less must be in two consecutive frames
NEIGHBOUR_S = 0.2  # frames further apart cannot confirm each other's faces
_BYTES_IN_FLIGHT = 100e6


def frames_in_flight(frame: Frame) -> int:
    """How many frames of this size may wait between decoding and the table: about 100 MB of pixels, 4 to 32 frames."""
    size = frame.image.nbytes if frame.image is not None else 1
    return int(np.clip(_BYTES_IN_FLIGHT / size, 4, 32))


def keep_faces(faces: list[Face], config: DetectConfig) -> list[Face]:
    """The max_faces largest of the faces with at least min_face pixels, in the detector's order."""

    def shorter_side(face: Face) -> float:
        return float((face.box_xyxy[2:] - face.box_xyxy[:2]).min())

    kept = [face for face in faces if shorter_side(face) >= config.min_face]
    if config.max_faces is not None and len(kept) > config.max_faces:
        largest = sorted(kept, key=shorter_side, reverse=True)[: config.max_faces]
        kept = [face for face in kept if any(face is chosen for chosen in largest)]
    return kept


def match_faces(first: list[Face], last: list[Face]) -> list[tuple[Face, Face]] | None:
    """Pair the faces of two key frames one to one; None where any face has no clear counterpart."""
    if len(first) != len(last):
        return None
    pairs, free = [], list(last)
    for face in first:
        overlaps = iou_of_one(face.box_xyxy, np.stack([other.box_xyxy for other in free]))
        order = np.argsort(-overlaps)
        if overlaps[order[0]] < 0.5 or (len(order) > 1 and overlaps[order[1]] > 0.25):
            return None
        pairs.append((face, free.pop(int(order[0]))))
    return pairs


def blend_faces(pair: tuple[Face, Face], share: float) -> Face:
    """The face at `share` (0..1) of the way from the first to the second of a pair."""
    a, b = pair
    landmarks = None
    if a.landmarks is not None and b.landmarks is not None:
        landmarks = (a.landmarks * (1 - share) + b.landmarks * share).astype(np.float32)
    box = (a.box_xyxy * (1 - share) + b.box_xyxy * share).astype(np.float32)
    return Face(box_xyxy=box, landmarks=landmarks, score=a.score * (1 - share) + b.score * share)


def _signature(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """A coarse gray image, about 24 x 32 samples, for cut detection."""
    step_y, step_x = max(1, image.shape[0] // 24), max(1, image.shape[1] // 32)
    return np.asarray(image[::step_y, ::step_x].mean(2), np.float32)


def _is_cut(before: npt.NDArray[np.float32] | None, now: npt.NDArray[np.float32]) -> bool:
    """Whether the signatures of two consecutive frames belong to different shots."""
    return before is not None and (before.shape != now.shape or float(np.abs(now - before).mean()) > CUT_LEVEL)


@dataclass(slots=True)
class _Segment:
    """A key frame and the frames that follow it up to the next key frame."""

    key: Frame
    faces: "Future[list[Face]] | None"  # None: the key frame is unreadable
    inside: list[Frame] = field(default_factory=list)
    cut: bool = False  # a cut lies between this key frame and the next one


class _FilmDetection:
    """State of one film's detection: the scale in use, and when all scales are due again."""

    def __init__(self, detector: ScaledDetector, config: DetectConfig, pool: ThreadPoolExecutor) -> None:
        self.detector, self.config, self.pool = detector, config, pool
        self._smallest_px: float | None = None  # height of the smallest known face; None: no face
        self._full_time_s: float | None = None  # of the last scan at all scales
        self._full: Future[list[Face]] | None = None  # a scan in progress
        self._num_keys = 0  # key frames since that scan began

    def key(self, frame: Frame, *, new_shot: bool) -> "Future[list[Face]]":
        """Start detection of a key frame; the schedule depends on the frames alone, never on timing."""
        assert frame.image is not None
        now = frame.time_s if frame.time_s is not None else 0.0
        if new_shot or self._full_time_s is None:
            full = self.pool.submit(self._detect, frame.image, None)
            self._learn(full.result())
            self._full, self._full_time_s = None, now
            return full
        if self._full is not None:
            self._num_keys += 1
            if self._num_keys == FULL_DELAY:  # fixed, so that the result is deterministic; done by then
                self._learn(self._full.result())
                self._full = None
        elif not 0 <= now - self._full_time_s < FULL_EVERY_S:
            self._full, self._full_time_s = self.pool.submit(self._detect, frame.image, None), now
            self._num_keys = 0
        return self.submit(frame)

    def submit(self, frame: Frame) -> "Future[list[Face]]":
        """Start detection at the one scale that resolves the faces known so far."""
        return self.pool.submit(self.deferred(frame))

    def deferred(self, frame: Frame) -> Callable[[], list[Face]]:
        """The call that `submit` would start, for later and from any thread."""
        assert frame.image is not None
        height, width = frame.image.shape[:2]
        if self._smallest_px is None:
            long_side = min(max(height, width), EMPTY_LONG_SIDE)
        else:
            long_side = choose_long_side(width, height, smallest_face_px=self._smallest_px)
        return partial(self._detect, frame.image, long_side)

    def _learn(self, faces: list[Face]) -> None:
        self._smallest_px = min((float(face.box_xyxy[3] - face.box_xyxy[1]) for face in faces), default=None)

    def _detect(self, image: npt.NDArray[np.uint8], long_side: int | None) -> list[Face]:
        return keep_faces(self.detector.detect(image[None], long_side=long_side)[0], self.config)


def _segments(frames: Iterator[Frame], state: _FilmDetection) -> Iterator[_Segment]:
    """Divide a film into segments; detection of each key frame starts as soon as it is read."""
    segment: _Segment | None = None
    before: npt.NDArray[np.float32] | None = None
    new_shot = False  # a cut since the last key frame
    for frame in frames:
        if frame.image is not None:
            now = _signature(frame.image)
            new_shot |= _is_cut(before, now)
            before = now
        if segment is not None:
            segment.cut |= new_shot
            if not _is_key(frame, segment, state.config.detect_every):
                segment.inside.append(frame)
                continue
            yield segment
        segment = _Segment(key=frame, faces=None)
        if frame.image is not None:
            segment.faces = state.key(frame, new_shot=new_shot)
            new_shot = False
    if segment is not None:
        yield segment


def _is_key(frame: Frame, segment: _Segment, detect_every: int) -> bool:
    if frame.image is None or segment.key.image is None or frame.image.shape != segment.key.image.shape:
        return True
    if frame.time_s is None or segment.key.time_s is None or len(segment.inside) + 1 >= detect_every:
        return True
    return frame.time_s - segment.key.time_s > MAX_INSIDE_S


def _finish(segment: _Segment, following: _Segment | None, state: _FilmDetection) -> Iterator[DetectedFrame]:
    """Yield a segment's frames with their faces; `following` is the next segment (None at the end of the film)."""
    first = segment.faces.result() if segment.faces is not None else []
    yield DetectedFrame(segment.key, first)
    if not segment.inside:
        return
    pairs = None
    if following is not None and following.faces is not None and not segment.cut:
        pairs = match_faces(first, following.faces.result())
    if pairs is None:
        futures = [state.submit(frame) for frame in segment.inside]
        for frame, future in zip(segment.inside, futures, strict=True):
            yield DetectedFrame(frame, future.result())
        return
    assert following is not None and following.key.time_s is not None and segment.key.time_s is not None
    span = following.key.time_s - segment.key.time_s
    for frame in segment.inside:
        assert frame.time_s is not None
        share = (frame.time_s - segment.key.time_s) / span if span > 0 else 0.5
        faces = [blend_faces(pair, share) for pair in pairs]
        yield DetectedFrame(frame, faces, state.deferred(frame) if pairs else None)


def _same_place(face: Face, other: Face) -> bool:
    """Whether two boxes have about the same size and their centres are less than that apart."""
    (low, high), (other_low, other_high) = face.box_xyxy.reshape(2, 2), other.box_xyxy.reshape(2, 2)
    side, other_side = np.sqrt(np.prod(high - low)), np.sqrt(np.prod(other_high - other_low))
    near = np.linalg.norm(low + high - other_low - other_high) / 2 < np.sqrt(side * other_side)
    return bool(near and 0.5 < side / other_side < 2)


def _drop_unconfirmed(frames: Iterator[DetectedFrame]) -> Iterator[DetectedFrame]:
    """Drop low-scoring faces that neither neighbouring frame confirms."""
    before: DetectedFrame | None = None
    current: DetectedFrame | None = None
    for after in frames:
        if current is not None:
            yield current if before is None else _confirmed(current, before, after)
        before, current = current, after
    if current is not None:
        yield current


def _confirmed(frame: DetectedFrame, before: DetectedFrame, after: DetectedFrame) -> DetectedFrame:
    if all(face.score >= WEAK_SCORE for face in frame.faces):
        return frame
    start_s, end_s = before.frame.time_s, after.frame.time_s
    if before.frame.image is None or after.frame.image is None or start_s is None or end_s is None:
        return frame
    if end_s - start_s > 2 * NEIGHBOUR_S:
        return frame
    near = before.faces + after.faces
    kept = [face for face in frame.faces if face.score >= WEAK_SCORE or any(_same_place(face, other) for other in near)]
    return frame._replace(faces=kept)


def detect_film(
    frames: Iterator[Frame], *, detector: ScaledDetector, config: DetectConfig, pool: ThreadPoolExecutor
) -> Iterator[DetectedFrame]:
    """Yields every frame of a film, in order, with its faces (none for an unreadable frame)."""
    return _drop_unconfirmed(_detect_all(frames, detector=detector, config=config, pool=pool))


def _detect_all(
    frames: Iterator[Frame], *, detector: ScaledDetector, config: DetectConfig, pool: ThreadPoolExecutor
) -> Iterator[DetectedFrame]:
    state = _FilmDetection(detector, config, pool)
    waiting: deque[_Segment] = deque()
    num_waiting = 0
    for segment in _segments(frames, state):
        waiting.append(segment)
        num_waiting += 1 + len(segment.inside)
        limit = frames_in_flight(segment.key)
        while len(waiting) > 1 and num_waiting > limit:
            oldest = waiting.popleft()
            num_waiting -= 1 + len(oldest.inside)
            yield from _finish(oldest, waiting[0], state)
    while waiting:
        oldest = waiting.popleft()
        yield from _finish(oldest, waiting[0] if waiting else None, state)


def detect_live(
    frames: Iterator[Frame], *, detector: ScaledDetector, config: DetectConfig, pool: ThreadPoolExecutor
) -> Iterator[DetectedFrame]:
    """Yields each frame with its faces before it takes the next one, for live streams.

    Detection runs on every frame, at the scale that resolves the known faces; scans at all scales run in the pool.
    """
    state = _FilmDetection(detector, config, pool)
    before: npt.NDArray[np.float32] | None = None
    for frame in frames:
        if frame.image is None:
            yield DetectedFrame(frame, [])
            continue
        now = _signature(frame.image)
        faces = state.key(frame, new_shot=_is_cut(before, now)).result()
        before = now
        yield DetectedFrame(frame, faces)


def detect_pictures(
    frames: Iterator[Frame], *, detector: ScaledDetector, config: DetectConfig, pool: ThreadPoolExecutor
) -> Iterator[DetectedFrame]:
    """Yields every picture with its faces, detected at all scales."""

    def detect(frame: Frame) -> DetectedFrame:
        if frame.image is None:
            return DetectedFrame(frame, [])
        return DetectedFrame(frame, keep_faces(detector.detect(frame.image[None])[0], config))

    return ordered_map(pool, detect, frames, ahead=8)


def whole_pictures(frames: Iterator[Frame]) -> Iterator[DetectedFrame]:
    """Yields every picture as one face that fills it; nothing was detected, so the score is NaN."""
    for frame in frames:
        if frame.image is None:
            yield DetectedFrame(frame, [])
        else:
            height, width = frame.image.shape[:2]
            box = np.array([0, 0, width, height], np.float32)
            yield DetectedFrame(frame, [Face(box_xyxy=box, landmarks=None, score=np.nan)])

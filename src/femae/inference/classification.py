"""Crops tracked faces, classifies them in batches on all threads, and measures pose and image quality.

If a face was only interpolated, is not weak, and its two best compounds are nearly tied, the frame is redetected and
the face scored again, so that the label does not depend on interpolation.

The optional columns (`--columns`: head pose, five landmarks, image quality) tell which frames to trust: a face that is
turned away, small, blurred or dark is classified less reliably. data.quality has the measures and their errors. Pose
and landmarks need a detector that returns landmarks; they are NaN without one, and for faces that were filled in.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from femae.compound.rules import Rule, combine, decide
from femae.data.quality import blur, contrast, darkness, face_size_px, head_pose
from femae.engine.spec import Engine
from femae.faces.nms import iou_of_one
from femae.inference.parallel import ordered_map
from femae.labels import Compound
from femae.types import Face, FaceCrop, FaceResult, Frame, FrameResult, Status

__all__ = ["Classifier", "Cropper", "TrackedFrame", "measure_face", "measured_names"]

Cropper = Callable[[npt.NDArray[np.uint8], Face], FaceCrop]

_BATCH_FRAMES = 8  # frames per batch of the network
_BATCH_BYTES = 20e6  # of pixels per batch
_TIE_MARGIN = 0.06  # relative to the best score: a closer runner-up may win if the crop shifts by a few hundredths
_SAME_FACE_IOU = 0.5  # at least, of an interpolated and a detected box


class TrackedFrame(NamedTuple):
    """A frame and its faces with their ids; `redetect` as in DetectedFrame."""

    frame: Frame
    faces: list[tuple[int, Face]]
    redetect: Callable[[], list[Face]] | None = None


def _batches(frames: Iterator[TrackedFrame]) -> Iterator[list[TrackedFrame]]:
    batch: list[TrackedFrame] = []
    num_bytes = 0
    for item in frames:
        batch.append(item)
        num_bytes += item.frame.image.nbytes if item.frame.image is not None else 0
        if len(batch) == _BATCH_FRAMES or num_bytes > _BATCH_BYTES:
            yield batch
            batch, num_bytes = [], 0
    if batch:
        yield batch


@dataclass(frozen=True, kw_only=True, slots=True)
class Classifier:
    """Turns tracked faces into six probabilities, compound scores and the winning compound of each face."""

    engine: Engine
    cropper: Cropper
    compounds: tuple[Compound, ...]
    rule: Rule = "sum"
    weights: npt.NDArray[np.float32] | None = None  # f32[6], one per emotion
    threshold: float | None = None
    columns: tuple[str, ...] = ()  # of config.predict.COLUMNS: pose, landmarks, quality

    def stream(self, frames: Iterator[TrackedFrame], *, pool: ThreadPoolExecutor, ahead: int) -> Iterator[FrameResult]:
        """Yields every frame, in order, while up to `ahead` batches of up to eight frames are in flight."""
        for results in ordered_map(pool, self._classify, _batches(frames), ahead=ahead):
            yield from results

    def classify_live(self, frames: Iterator[TrackedFrame]) -> Iterator[FrameResult]:
        """Yields each frame before it takes the next one, for live streams."""
        for frame in frames:
            yield from self._classify([frame])

    def _classify(self, batch: list[TrackedFrame]) -> list[FrameResult]:
        found = self._score_frames(batch)
        tied = [i for i, item in enumerate(batch) if item.redetect is not None and any(map(self._is_tied, found[i]))]
        if tied:
            redetected = [_redetected(batch[i]) for i in tied]
            for i, faces in zip(tied, self._score_frames(redetected), strict=True):
                found[i] = faces
        results = []
        for item, faces in zip(batch, found, strict=True):
            status: Status = "unreadable" if item.frame.image is None else "ok" if faces else "no_face"
            ordered = tuple(sorted(faces, key=lambda face: face.face_id))
            results.append(FrameResult(frame=item.frame, status=status, faces=ordered))
        return results

    def _score_frames(self, frames: list[TrackedFrame]) -> list[list[FaceResult]]:
        """The scored faces of each frame; all of them go through the network as one batch."""
        scored = self._score([(item.frame, face_id, face) for item in frames for face_id, face in item.faces])
        ends = np.cumsum([len(item.faces) for item in frames])
        return [scored[end - len(item.faces) : end] for item, end in zip(frames, ends, strict=True)]

    def _score(self, faces: list[tuple[Frame, int, Face]]) -> list[FaceResult]:
        if not faces:
            return []
        crops = [self.cropper(frame.image, face).image for frame, _, face in faces if frame.image is not None]
        probs, au_probs, none_probs = self.engine.run(np.stack(crops))
        scores = combine(probs, compounds=self.compounds, rule=self.rule, weights=self.weights)
        names, best = decide(scores, compounds=self.compounds, threshold=self.threshold)
        measured = [
            measure_face(frame.image, face, kinds=self.columns) for frame, _, face in faces if frame.image is not None
        ]
        return [
            FaceResult(
                face=face,
                face_id=face_id,
                probs=probs[i],
                scores=scores[i],
                compound=names[i],
                compound_score=float(best[i]),
                au_probs=au_probs[i],
                none_probs=none_probs[i],
                measured=measured[i],
            )
            for i, (_, face_id, face) in enumerate(faces)
        ]

    def _is_tied(self, result: FaceResult) -> bool:
        """Whether a slightly different crop might change the compound, or move its score across the threshold.

        Near-ties of a weak face don't count: there the compound is only the largest of small numbers."""
        best = result.compound_score
        if self.threshold is not None and abs(best - self.threshold) < _TIE_MARGIN * best:
            return True
        runner_up = float(np.sort(result.scores)[-2]) if len(result.scores) > 1 else -np.inf
        return not result.weak and best - runner_up < _TIE_MARGIN * best


def _redetected(item: TrackedFrame) -> TrackedFrame:
    """The frame with each face replaced by the detected face that overlaps it most; unmatched ones stay."""
    assert item.redetect is not None
    detected = item.redetect()
    if not detected:
        return item
    boxes = np.stack([other.box_xyxy for other in detected])
    faces = []
    for face_id, face in item.faces:
        overlaps = iou_of_one(face.box_xyxy, boxes)
        best = int(np.argmax(overlaps))
        faces.append((face_id, detected[best] if overlaps[best] > _SAME_FACE_IOU else face))
    return item._replace(faces=faces)


_POINTS: Final = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
_NAMES: Final = {
    "pose": ("yaw_deg", "pitch_deg", "roll_deg"),
    "landmarks": tuple(f"{point}_{axis}" for point in _POINTS for axis in "xy"),
    "quality": ("face_size_px", "blur", "darkness", "contrast"),
}


def measured_names(kinds: Sequence[str]) -> tuple[str, ...]:
    """The column names of these kinds (config.predict.COLUMNS), in order."""
    return tuple(name for kind in kinds for name in _NAMES[kind])


def measure_face(image: npt.NDArray[np.uint8], face: Face, *, kinds: Sequence[str]) -> npt.NDArray[np.float32]:
    """The values f32[len(measured_names(kinds))] of a face in a frame u8[H, W, 3] RGB; NaN where unknown."""
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
    """Measures the part of the box that lies inside the frame."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = np.round(face.box_xyxy).astype(int).tolist()
    part = image[max(0, y1) : min(height, max(y2, y1 + 1)), max(0, x1) : min(width, max(x2, x1 + 1))]
    size = face_size_px(face.box_xyxy)
    if part.size == 0:
        return [size, *[float("nan")] * 3]
    return [size, blur(part), darkness(part), contrast(part)]

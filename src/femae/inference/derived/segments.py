"""Intervals of a film, per face: segments of one expression, and windows of equal length.

A segment ends where the expression changes or the face disappears. A segment shorter than `min_s` is merged into the
one before it, or into the one after it if it is the first; without a neighbour it is dropped. Mean and peak are taken
over the frames that have the segment's own expression. `none` forms segments, too.

Window k holds the frames that begin in [k * seconds, (k + 1) * seconds). Its means weight each frame by its duration.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from femae.inference.derived.frames import SeenFace, TimedFrame
from femae.labels import EMOTIONS

__all__ = ["SEGMENT_SCHEMA", "WINDOW_SCHEMA", "Segment", "Segments", "Windows", "segment_batch", "window_batch"]

_TOUCH_S = 1e-6  # tolerance for two times to be equal

_SEGMENT_FIELDS: "list[pa.Field[Any]]" = [
    pa.field("source", pa.string(), nullable=False),
    pa.field("face_id", pa.int64(), nullable=False),
    pa.field("expression", pa.string(), nullable=False),
    *(pa.field(name, pa.float64(), nullable=False) for name in ("start_s", "end_s", "duration_s", "peak_s")),
    *(pa.field(name, pa.float32(), nullable=False) for name in ("mean_probability", "peak_probability")),
]
SEGMENT_SCHEMA: Final = pa.schema(_SEGMENT_FIELDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """An interval in which one face shows one expression."""

    source: str
    face_id: int
    expression: str
    start_s: float
    end_s: float
    peak_s: float  # start of the frame with the largest probability
    peak_probability: float
    weight: float  # of the mean: seconds with the expression; a frame of 0 s counts 1e-9
    total: float  # sum of weight times probability

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s

    @property
    def mean_probability(self) -> float:
        return self.total / self.weight

    def row(self) -> dict[str, object]:
        """The values of SEGMENT_SCHEMA."""
        return {name: getattr(self, name) for name in SEGMENT_SCHEMA.names}


class Segments:
    """Turns timed frames into segments, each yielded once it is final; keeps two segments per visible face."""

    def __init__(self, *, min_s: float = 0.0) -> None:
        self.min_s = min_s
        self._open: dict[int, Segment] = {}  # the current segment of each face
        self._held: dict[int, Segment] = {}  # the one before it, which may still be extended

    def push(self, moment: TimedFrame) -> Iterator[Segment]:
        """Yields the segments that this frame makes final."""
        visible = {face.face_id for face in moment.frame.faces}
        for face_id in [face_id for face_id in self._open if face_id not in visible]:
            yield from self._leave(face_id)
        for face in moment.frame.faces:
            segment = self._open.get(face.face_id)
            new = _start(face, moment)
            if segment is not None and abs(segment.end_s - moment.start_s) > _TOUCH_S:
                yield from self._leave(face.face_id)
                segment = None
            if segment is not None and segment.expression == face.expression:
                self._open[face.face_id] = _joined(segment, new)
                continue
            if segment is not None:
                yield from self._settle(segment)
            self._open[face.face_id] = new

    def finish(self) -> Iterator[Segment]:
        """Yields the segments still open at the end."""
        for face_id in list(self._open):
            yield from self._leave(face_id)

    def _leave(self, face_id: int) -> Iterator[Segment]:
        """A face has disappeared: its last segments are final."""
        yield from self._settle(self._open.pop(face_id))
        held = self._held.pop(face_id)
        if held.duration_s >= self.min_s - _TOUCH_S:
            yield held

    def _settle(self, segment: Segment) -> Iterator[Segment]:
        """A segment has ended: merge it with the held one, or yield that and hold the new one."""
        held = self._held.get(segment.face_id)
        if held is None:
            self._held[segment.face_id] = segment
        elif segment.duration_s < self.min_s - _TOUCH_S:
            self._held[segment.face_id] = replace(held, end_s=segment.end_s)
        elif held.duration_s < self.min_s - _TOUCH_S:
            self._held[segment.face_id] = replace(segment, start_s=held.start_s)
        elif held.expression == segment.expression:
            self._held[segment.face_id] = _joined(held, segment)
        else:
            yield held
            self._held[segment.face_id] = segment


def _start(face: SeenFace, moment: TimedFrame) -> Segment:
    weight = moment.end_s - moment.start_s or 1e-9
    return Segment(
        source=moment.frame.source,
        face_id=face.face_id,
        expression=face.expression,
        start_s=moment.start_s,
        end_s=moment.end_s,
        peak_s=moment.start_s,
        peak_probability=face.probability,
        weight=weight,
        total=weight * face.probability,
    )


def _joined(first: Segment, second: Segment) -> Segment:
    """Two consecutive segments of one expression as one; of equal peaks the first counts."""
    best = second if second.peak_probability > first.peak_probability else first
    return replace(
        first,
        end_s=second.end_s,
        peak_s=best.peak_s,
        peak_probability=best.peak_probability,
        weight=first.weight + second.weight,
        total=first.total + second.total,
    )


def segment_batch(segments: list[Segment]) -> pa.RecordBatch:
    """Segments as rows of SEGMENT_SCHEMA."""
    return pa.RecordBatch.from_pylist([segment.row() for segment in segments], schema=SEGMENT_SCHEMA)


_WINDOW_FIELDS: "list[pa.Field[Any]]" = [
    pa.field("source", pa.string(), nullable=False),
    pa.field("face_id", pa.int64(), nullable=False),
    pa.field("start_s", pa.float64(), nullable=False),
    pa.field("end_s", pa.float64(), nullable=False),
    pa.field("num_frames", pa.int64(), nullable=False),
    pa.field("seconds", pa.float64(), nullable=False),
    *(pa.field(f"mean_{emotion}", pa.float32(), nullable=False) for emotion in EMOTIONS),
    pa.field("expression", pa.string(), nullable=False),
    pa.field("expression_share", pa.float32(), nullable=False),
]
WINDOW_SCHEMA: Final = pa.schema(_WINDOW_FIELDS)


@dataclass(kw_only=True, slots=True)
class _Sum:
    """The sums of one face in one window."""

    num_frames: int = 0
    weight: float = 0.0
    probs: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(EMOTIONS)))
    seconds: dict[str, float] = field(default_factory=dict)  # by expression

    def add(self, face: SeenFace, weight: float) -> None:
        self.num_frames += 1
        self.weight += weight
        self.probs += weight * face.probs
        self.seconds[face.expression] = self.seconds.get(face.expression, 0.0) + weight


class Windows:
    """Turns timed frames into rows of WINDOW_SCHEMA, yielded at the end of each window."""

    def __init__(self, *, seconds: float) -> None:
        self.seconds = seconds
        self._number: int | None = None
        self._source = ""
        self._sums: dict[int, _Sum] = {}

    def push(self, moment: TimedFrame) -> Iterator[dict[str, Any]]:
        """Yields the rows of the previous window if this frame begins a new one."""
        number = math.floor(moment.start_s / self.seconds + 1e-9)
        if number != self._number:
            yield from self.finish()
            self._number, self._source = number, moment.frame.source
        for face in moment.frame.faces:
            self._sums.setdefault(face.face_id, _Sum()).add(face, moment.end_s - moment.start_s or 1e-9)

    def finish(self) -> Iterator[dict[str, Any]]:
        """Yields the rows of the open window, ordered by face id."""
        for face_id, total in sorted(self._sums.items()):
            assert self._number is not None
            expression = max(total.seconds, key=lambda name: total.seconds[name])  # ties: the first seen
            yield {
                "source": self._source,
                "face_id": face_id,
                "start_s": self._number * self.seconds,
                "end_s": (self._number + 1) * self.seconds,
                "num_frames": total.num_frames,
                "seconds": total.weight,
                **{f"mean_{name}": value for name, value in zip(EMOTIONS, total.probs / total.weight, strict=True)},
                "expression": expression,
                "expression_share": total.seconds[expression] / total.weight,
            }
        self._sums = {}


def window_batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    """Rows of WINDOW_SCHEMA."""
    return pa.RecordBatch.from_pylist(rows, schema=WINDOW_SCHEMA)

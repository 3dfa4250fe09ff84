"""Windows: means over stretches of equal length, per face.

Window k holds the frames that begin in [k * seconds, (k + 1) * seconds). Means weigh each frame by its duration.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from femae.inference.derived.frames import SeenFace, TimedFrame
from femae.labels import EMOTIONS

__all__ = ["WINDOW_SCHEMA", "Windows", "window_batch"]

_FIELDS: "list[pa.Field[Any]]" = [
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
WINDOW_SCHEMA: Final = pa.schema(_FIELDS)


@dataclass(kw_only=True, slots=True)
class _Sum:
    """Of one face in one window."""

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
    """Timed frames in, rows out when a window is over."""

    def __init__(self, *, seconds: float) -> None:
        self.seconds = seconds
        self._number: int | None = None
        self._source = ""
        self._sums: dict[int, _Sum] = {}

    def push(self, moment: TimedFrame) -> Iterator[dict[str, Any]]:
        """The rows of the window before, where this frame begins another."""
        number = math.floor(moment.start_s / self.seconds + 1e-9)
        if number != self._number:
            yield from self.finish()
            self._number, self._source = number, moment.frame.source
        for face in moment.frame.faces:
            self._sums.setdefault(face.face_id, _Sum()).add(face, moment.end_s - moment.start_s or 1e-9)

    def finish(self) -> Iterator[dict[str, Any]]:
        """The rows of the window that is open, by face id."""
        for face_id, total in sorted(self._sums.items()):
            assert self._number is not None
            expression = max(total.seconds, key=lambda name: total.seconds[name])  # of equal ones the first seen
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

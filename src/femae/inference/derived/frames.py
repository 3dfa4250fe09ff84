"""The input of the derived tables: frames, from a stream of results or from an existing table, with durations."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from femae.labels import EMOTIONS
from femae.types import FrameResult

__all__ = ["Durations", "SeenFace", "SeenFrame", "TimedFrame", "frames_of", "seen", "timed"]


class SeenFace(NamedTuple):
    """One face of a frame."""

    face_id: int
    probs: npt.NDArray[np.float32]  # f32[6], as the table has them
    expression: str
    probability: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenFrame:
    """One frame with its faces."""

    source: str
    time_s: float | None
    status: str
    faces: tuple[SeenFace, ...]


class TimedFrame(NamedTuple):
    """A frame with the time at which it begins and ends, in seconds."""

    frame: SeenFrame
    start_s: float
    end_s: float


def seen(result: FrameResult) -> SeenFrame:
    """A result as a SeenFrame."""
    faces = tuple(SeenFace(f.face_id, f.probs, f.expression, f.expression_probability) for f in result.faces)
    return SeenFrame(source=result.frame.source, time_s=result.frame.time_s, status=result.status, faces=faces)


def frames_of(table: pa.Table) -> Iterator[SeenFrame]:
    """The frames of a table of predictions; consecutive rows of the same frame become one."""
    names = ("source", "frame", "time_s", "face_id", "status", *EMOTIONS, "expression", "expression_probability")
    held: SeenFrame | None = None
    number: tuple[Any, Any] | None = None
    for batch in table.select(list(names)).to_batches(max_chunksize=4096):
        columns = {name: batch.column(name).to_pylist() for name in names}
        for row in range(batch.num_rows):
            values: dict[str, Any] = {name: column[row] for name, column in columns.items()}
            faces: tuple[SeenFace, ...] = ()
            if values["face_id"] is not None:
                probs = np.array([values[emotion] for emotion in EMOTIONS], np.float32)
                faces = (SeenFace(values["face_id"], probs, values["expression"], values["expression_probability"]),)
            if held is not None and number == (values["source"], values["frame"]):
                faces = (*held.faces, *faces)
            elif held is not None:
                yield held
            number = (values["source"], values["frame"])
            held = SeenFrame(source=values["source"], time_s=values["time_s"], status=values["status"], faces=faces)
    if held is not None:
        yield held


class Durations:
    """Turns frames into timed frames: a frame lasts until the next one, the last one as long as the one before it.

    Frames without a time are left out. A frame before a step back in time lasts as long as the one before it.
    """

    def __init__(self) -> None:
        self._held: SeenFrame | None = None
        self._last_s = 0.0  # duration

    def push(self, frame: SeenFrame) -> TimedFrame | None:
        """Takes a frame and returns the previous one, whose end is now known."""
        if frame.time_s is None:
            return None
        done = None
        if self._held is not None and self._held.time_s is not None:
            length = frame.time_s - self._held.time_s
            self._last_s = length if length > 0 else self._last_s
            done = TimedFrame(self._held, self._held.time_s, self._held.time_s + self._last_s)
        self._held = frame
        return done

    def finish(self) -> TimedFrame | None:
        """The last frame."""
        held, self._held = self._held, None
        if held is None or held.time_s is None:
            return None
        return TimedFrame(held, held.time_s, held.time_s + self._last_s)


def timed(frames: Iterable[SeenFrame]) -> Iterator[TimedFrame]:
    """Frames with their durations."""
    durations = Durations()
    for frame in frames:
        if (done := durations.push(frame)) is not None:
            yield done
    if (last := durations.finish()) is not None:
        yield last

"""Writes one recording: the table and the annotated film of the processed frames."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pyarrow as pa

from femae.errors import OutputError
from femae.inference.item import Draw
from femae.inference.sinks import open_sinks
from femae.inference.tables import results_to_batch
from femae.types import FrameResult, SourceInfo
from femae.video.writer import VideoWriter

__all__ = ["Recorder"]


class Recorder:
    """Writes `<out>/<stem>.<format>` and `<out>/<stem>.annotated.mp4`; both begin at 0 s with the first frame added.

    The table has an additional column `num_dropped`, the number of frames dropped since the recording began. `frame`
    counts all frames that arrived, so it has gaps where frames were dropped.
    """

    def __init__(
        self,
        out: Path,
        *,
        stem: str,
        formats: Sequence[str],
        schema: pa.Schema,
        draw: Draw,
        info: SourceInfo,
    ) -> None:
        """Open the files. Raises OutputError."""
        self._schema, self._draw = schema, draw
        self._extended = schema.append(pa.field("num_dropped", pa.int64(), nullable=False))
        self._first: tuple[int, float] | None = None  # index and time of the first frame
        self._num_frames = 0
        self._num_dropped = 0
        self.length_s = 0.0
        self._tables = open_sinks(out, stem=stem, formats=formats, schema=self._extended)
        try:
            self._film = VideoWriter(
                out / f"{stem}.annotated.mp4", info=replace(info, time_base=Fraction(1, 90_000)), num_threads=1
            )
        except BaseException:
            self._tables.abort()
            raise

    def add(self, result: FrameResult) -> None:
        """Add the next frame, which has an image and a time. Raises OutputError after deleting the recording."""
        frame = result.frame
        assert frame.image is not None and frame.time_s is not None
        if self._first is None:
            self._first = (frame.index, frame.time_s)
        shifted = replace(frame, index=frame.index - self._first[0] + 1, time_s=frame.time_s - self._first[1])
        self._num_frames += 1
        self._num_dropped = shifted.index - self._num_frames
        self.length_s = shifted.time_s or 0.0
        try:
            batch = results_to_batch([replace(result, frame=shifted)], schema=self._schema)
            dropped = pa.array([self._num_dropped] * batch.num_rows, pa.int64())
            self._tables.write(pa.record_batch([*batch.columns, dropped], schema=self._extended))
            self._film.write(shifted, self._draw(frame.image, result))
        except OutputError:
            self._tables.abort()
            self._film.abort()
            raise

    def close(self) -> str:
        """Complete both files, or delete them if no frame was added; returns a sentence for the user."""
        if self._num_frames == 0:
            self._tables.abort()
            self._film.abort()
            return "nothing was recorded"
        self._tables.close()
        self._film.close()
        files = ", ".join(str(path) for path in (*self._tables.paths, self._film.path))
        return f"{self._num_frames} frames in {self.length_s:.1f} s recorded, {self._num_dropped} dropped -> {files}"

"""A film in any format that FFmpeg reads, as a source of RGB frames with the file's own presentation times."""

from collections.abc import Generator, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from femae.config.storage import folder_address
from femae.errors import InputError
from femae.types import Frame, SourceInfo
from femae.video.decode import DecodedFrame, FilmDecoder
from femae.video.demux import PacketReader
from femae.video.film_parts import FilmPart
from femae.video.rgb import RgbConverter, as_fraction
from femae.video.source import Tally
from femae.video.storage import file_name

__all__ = ["PyAVSource"]

_DEFAULT_STEP_S = 0.04  # between frames of a film that states neither times nor a rate


class PyAVSource:
    """One film, local or in an object store: MP4, MOV, MKV, WebM, AVI, MPG, GIF and whatever else FFmpeg reads.

    Frames are yielded as displayed: rotated by quarter turns and mirrored as the display matrix says, with colours by
    the stream's tags and transparent parts over white. The sample aspect ratio is not applied.

    `index` counts from 1 in order of presentation; `time_s` is the presentation time that the file states, neither
    shifted nor smoothed (a film may begin later than 0). Frames without one follow at the average rate. Repeated and
    late frames are kept; frames hidden by an edit list are left out.

    Damage does not end the film. A frame that cannot be decoded, or that the file's index lists beyond its end, is a
    Frame whose image is None. A frame that the decoder marks as damaged is kept. `problems` counts both.
    """

    def __init__(self, path: str | Path, *, num_threads: int = 0, part: FilmPart | None = None) -> None:
        """Open the film and decode its first frame. `num_threads` of the decoder; 0: by the size of the frames.

        `part`: read only this part of the film. Its frames count from 1; the warm-up frames before it, which let the
        tracker find its faces, all have the index 0 and are not counted in `problems`.

        Raises InputError: missing, a folder, empty, no permission, not a film, no picture in it.
        """
        assert num_threads >= 0
        self.path = folder_address(path)
        self._name = file_name(self.path)
        self.problems: list[str] = []
        self.tally = Tally()  # of the last pass
        self._num_threads, self._part = num_threads, part
        self._running: Generator[DecodedFrame, None, None] | None = None
        reader = self._reader()
        self._time_base = reader.time_base
        self.info = _info_of(reader)
        self._opened: Iterator[DecodedFrame] | None = self._read_first_frame(self._start(reader))
        self._step_s = float(1 / self.info.frame_rate) if self.info.frame_rate else _DEFAULT_STEP_S

    def __iter__(self) -> Iterator[Frame]:
        self.problems.clear()
        # The first pass continues the iterator that was started when opening; further passes start again.
        frames = self._opened or self._start(self._reader())
        self._opened = None
        convert, tally = RgbConverter(), Tally()
        self.tally = tally
        time_s: float | None = None
        for decoded in frames:
            time_s = self._time_of(decoded, time_s)
            image = None if decoded.frame is None else convert(decoded.frame)
            index = 0
            if self._part is None or decoded.pts is None or decoded.pts >= self._part.start:
                index = tally.add(time_s, lost=decoded.frame is None, damaged=decoded.is_damaged)
            yield Frame(index=index, time_s=time_s, image=image, source=self._name, problem=decoded.problem)
        if time_s is not None and self._has_end and self._decoder.reader.is_truncated(self._step_s):
            tally.breaks_off_s = time_s
        self.problems.extend(tally.sentences())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; not while another thread iterates. Iterating afterwards opens it again."""
        if self._running is not None:
            self._running.close()
        self._running = self._opened = None

    def part(self, part: FilmPart) -> "PyAVSource":
        """Open a part of the same film as a separate source. Raises InputError as the constructor does."""
        return PyAVSource(self.path, num_threads=self._num_threads, part=part)

    @property
    def is_part(self) -> bool:
        """Whether only a part of the film is read."""
        return self._part is not None

    @property
    def _has_end(self) -> bool:
        """Whether the end of the film is read."""
        return self._part is None or self._part.end is None

    def _reader(self) -> PacketReader:
        part = self._part
        return PacketReader(self.path, delay=part.delay if part is not None and part.number else None)

    def _start(self, reader: PacketReader) -> Iterator[DecodedFrame]:
        self.close()
        self._decoder = FilmDecoder(reader, num_threads=self._num_threads, part=self._part)
        self._running = self._decoder.frames()
        return self._running

    def _read_first_frame(self, frames: Iterator[DecodedFrame]) -> Iterator[DecodedFrame]:
        """Set width and height of `info` from the first decoded frame; returns an iterator over all frames.

        Rotation is known only from a frame. Raises InputError for a whole film without any.
        """
        read: list[DecodedFrame] = []
        for decoded in frames:
            read.append(decoded)
            if decoded.frame is not None:
                height, width = RgbConverter()(decoded.frame).shape[:2]
                self.info = replace(self.info, width=width, height=height)
                return chain(read, frames)
        if self._part is not None:  # other parts may have some
            return iter(read)
        raise InputError(f"'{self.path}' holds no picture that can be decoded: the file is damaged, get another copy")

    def _time_of(self, decoded: DecodedFrame, last_s: float | None) -> float:
        if decoded.pts is not None:
            return decoded.pts * self._time_base.numerator / self._time_base.denominator
        return 0.0 if last_s is None else last_s + self._step_s


def _info_of(reader: PacketReader) -> SourceInfo:
    """What the headers state; width and height come from the first frame."""
    stream: Any = reader.stream
    duration_s = None
    if stream.duration is not None:
        duration_s = float(stream.duration * reader.time_base)
    elif reader.container.duration is not None:
        duration_s = reader.container.duration / 1_000_000
    return SourceInfo(
        name=file_name(reader.path),
        frame_rate=as_fraction(stream.average_rate) or as_fraction(stream.guessed_rate),
        time_base=reader.time_base,
        num_frames=stream.frames or None,
        duration_s=duration_s,
    )

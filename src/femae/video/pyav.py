"""Films of every kind FFmpeg reads, as a source of RGB frames with the file's own presentation times."""

from collections.abc import Generator, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from femae.config.storage import folder_address
from femae.errors import InputError
from femae.types import Frame, SourceInfo
from femae.video.decode import Decoding, Shot
from femae.video.demux import PacketReader
from femae.video.film_parts import FilmPart
from femae.video.rgb import RgbConverter, as_fraction
from femae.video.source import Tally
from femae.video.storage import file_name

__all__ = ["PyAVSource"]

_DEFAULT_STEP_S = 0.04  # between frames of a film that states neither times nor a rate


class PyAVSource:
    """One film, here or in a store: MP4, MOV, MKV, WebM, AVI, MPG, GIF and whatever else FFmpeg reads.

    Frames are given as displayed: quarter turns and mirroring of the display matrix applied, colours by the stream's
    tags, transparent parts over white. Pixels are taken as square: the sample aspect ratio is not applied.

    `index` counts from 1 in order of presentation; `time_s` is the presentation time the file states, neither shifted
    nor smoothed (a film may begin later than 0). Frames without one follow at the average rate. Repeated and late
    frames are all kept; frames that an edit list hides are none.

    Damage does not end the film. A frame that cannot be had, or that the file's index promises beyond its end, is a
    Frame whose image is None. A picture that the decoder marks as damaged is kept. `problems` counts both.
    """

    def __init__(self, path: str | Path, *, num_threads: int = 0, part: FilmPart | None = None) -> None:
        """Open the film and decode its first picture. `num_threads` of the decoder; 0: by the size of the picture.

        `part`: only this part of the film. Its frames count from 1; those before it that it begins with, for the faces'
        sake, all have the index 0 and are not in `problems`.

        Raises InputError: missing, a folder, empty, no permission, not a film, no picture in it.
        """
        assert num_threads >= 0
        self.path = folder_address(path)
        self._name = file_name(self.path)
        self.problems: list[str] = []
        self.tally = Tally()  # of the last pass
        self._num_threads, self._part = num_threads, part
        self._running: Generator[Shot, None, None] | None = None
        reader = self._reader()
        self._time_base = reader.time_base
        self.info = _info_of(reader)
        self._opened: Iterator[Shot] | None = self._look_at_first_picture(self._start(reader))
        self._step_s = float(1 / self.info.frame_rate) if self.info.frame_rate else _DEFAULT_STEP_S

    def __iter__(self) -> Iterator[Frame]:
        self.problems.clear()
        # The shots looked at when opening serve the first pass; a further pass starts again.
        shots = self._opened or self._start(self._reader())
        self._opened = None
        convert, tally = RgbConverter(), Tally()
        self.tally = tally
        time_s: float | None = None
        for shot in shots:
            time_s = self._time_of(shot, time_s)
            image = None if shot.frame is None else convert(shot.frame)
            index = 0
            if self._part is None or shot.pts is None or shot.pts >= self._part.start:
                index = tally.add(time_s, lost=shot.frame is None, damaged=shot.is_damaged)
            yield Frame(index=index, time_s=time_s, image=image, source=self._name, problem=shot.problem)
        if time_s is not None and self._is_last and self._decoding.reader.breaks_off(self._step_s):
            tally.breaks_off_s = time_s
        self.problems.extend(tally.sentences())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; not while another thread iterates. Iterating afterwards opens it again."""
        if self._running is not None:
            self._running.close()
        self._running = self._opened = None

    def part(self, part: FilmPart) -> "PyAVSource":
        """A part of the same film, opened by itself. Raises InputError as opening does."""
        return PyAVSource(self.path, num_threads=self._num_threads, part=part)

    @property
    def is_part(self) -> bool:
        """Whether only a part of the film is read."""
        return self._part is not None

    @property
    def _is_last(self) -> bool:
        return self._part is None or self._part.end is None

    def _reader(self) -> PacketReader:
        part = self._part
        return PacketReader(self.path, delay=part.delay if part is not None and part.number else None)

    def _start(self, reader: PacketReader) -> Iterator[Shot]:
        self.close()
        self._decoding = Decoding(reader, num_threads=self._num_threads, part=self._part)
        self._running = self._decoding.shots()
        return self._running

    def _look_at_first_picture(self, shots: Iterator[Shot]) -> Iterator[Shot]:
        """Only a decoded frame tells how the film is turned, and whether there is any picture in it."""
        seen: list[Shot] = []
        for shot in shots:
            seen.append(shot)
            if shot.frame is not None:
                height, width = RgbConverter()(shot.frame).shape[:2]
                self.info = replace(self.info, width=width, height=height)
                return chain(seen, shots)
        if self._part is not None:  # the other parts may hold some
            return iter(seen)
        raise InputError(f"'{self.path}' holds no picture that can be decoded: the file is damaged, get another copy")

    def _time_of(self, shot: Shot, last_s: float | None) -> float:
        if shot.pts is not None:
            return shot.pts * self._time_base.numerator / self._time_base.denominator
        return 0.0 if last_s is None else last_s + self._step_s


def _info_of(reader: PacketReader) -> SourceInfo:
    """What the headers tell; width and height come from the first picture."""
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

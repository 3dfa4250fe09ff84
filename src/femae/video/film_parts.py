"""Splits long films into parts, at times that depend only on the film and the requested length.

Reading a part starts some time before its own frames (the warm-up), so that the tracker knows its faces by then. Only
films whose index lists every frame (MP4 and MOV) are split: there a reader can seek to any frame, and damage can be
detected without reading the rest of the file.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

from femae.video.demux import PacketReader
from femae.video.storage import size_of

__all__ = ["WARM_UP_S", "FilmPart", "parts_of"]

WARM_UP_S: Final = 120.0  # before a part's own frames; as long as the tracker remembers a person who is not seen


@dataclass(frozen=True, kw_only=True, slots=True)
class FilmPart:
    """A part of a film, in ticks of its time base; its own frames have times from `start` to before `end`."""

    number: int  # from 0
    first: int  # where reading starts; frames before `start` are warm-up
    start: int
    end: int | None  # None: to the end of the film
    delay: int  # from decoding to presentation, of the film's first packet


def parts_of(path: Path, *, part_s: float) -> tuple[FilmPart, ...]:
    """Split a film into equal parts of at most `part_s` seconds; () for a film that is shorter or cannot be split.

    Raises InputError as container.open_film does.
    """
    assert part_s > 0
    reader = PacketReader(path)
    try:
        return _parts(reader, part_s)
    finally:
        reader.close()


def _parts(reader: PacketReader, part_s: float) -> tuple[FilmPart, ...]:
    stream, tick_s = reader.stream, reader.time_base
    duration = stream.duration or 0
    count = math.ceil(Fraction(duration) * tick_s / Fraction(part_s).limit_denominator(1000))
    if count < 2 or not _is_indexed(reader):
        return ()
    first = next(iter(reader), None)
    if first is None or first.pts is None or first.dts is None:
        return ()
    delay, begin = first.pts - first.dts, stream.start_time if stream.start_time is not None else first.pts
    starts = [begin + duration * number // count for number in range(count)]
    warm_up = round(Fraction(WARM_UP_S) / tick_s)
    return tuple(
        FilmPart(
            number=number,
            first=max(begin, start - warm_up),
            start=start,
            end=starts[number + 1] if number + 1 < count else None,
            delay=delay,
        )
        for number, start in enumerate(starts)
    )


def _is_indexed(reader: PacketReader) -> bool:
    """Whether the index lists all frames, and the file contains all of their bytes."""
    entries = reader.stream.index_entries
    if not reader.is_mov or not reader.stream.frames or len(entries) != reader.stream.frames:
        return False
    end = max(entries[number].pos + entries[number].size for number in range(len(entries)))
    return bool(end <= size_of(reader.path))

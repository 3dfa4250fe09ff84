"""Reads the packets of a film's video stream, and finds frames that are listed or expected but cannot be read.

For Matroska, MPEG program and transport streams, FFmpeg skips damaged bytes silently: frames lost there are found as
gaps in the timestamps. AVI states no presentation times; they are derived from the decoding times.
"""

from bisect import insort
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from av.error import FFmpegError
from av.stream import Discard

from femae.video.container import AviIndex, is_truncated, open_film, unread_mov_frames
from femae.video.rgb import as_fraction

__all__ = ["Clock", "PacketReader", "SkippedBytes", "TimestampGaps"]

_MAX_ERRORS: Final = 1000  # consecutive reading errors, after which the rest of the file is given up
_RECENT: Final = 64  # packets; more than any decoder reorders


class PacketReader:
    """Iterates over the packets of one film; yields None for a reading error, after which reading continues."""

    def __init__(self, path: Path, *, delay: int | None = None) -> None:
        """`delay`: that of the film's first packet, for a reader that will seek before it reads.

        Raises InputError as container.open_film does.
        """
        self.path = path
        self.container, self.stream = open_film(path)
        for other in self.container.streams:
            if other is not self.stream:
                other.discard = Discard.all
        self.format: str = self.container.format.name
        self.is_mov = "mov" in self.format
        self.time_base = as_fraction(self.stream.time_base) or Fraction(1, 1000)
        self.skipped: list[int] = []  # decoding times of frames known to be lost; to be cleared by the consumer
        self.skipped_bytes = SkippedBytes()
        self._avi = AviIndex(self.stream, path) if self.format == "avi" else None
        self.delay = delay  # ticks from decoding to presentation of the first packet; None: unknown
        self._has_begun = delay is not None
        self._last_pos: int | None = None
        self._end = 0  # end of the last frame, in ticks
        self._recent_pts: deque[int] = deque(maxlen=_RECENT)

    def __iter__(self) -> Iterator[Any | None]:
        errors = 0
        while errors < _MAX_ERRORS:
            try:
                for packet in self.container.demux(self.stream):
                    if packet.size:  # empty packets repeat a frame in AVI, and mark the end elsewhere
                        errors = 0
                        self._note(packet)
                        yield packet
                return
            except FFmpegError:
                errors += 1
                yield None

    def close(self) -> None:
        self.container.close()

    def seek(self, ticks: int) -> None:
        """Seek to the key frame at or before this decoding time. Raises FFmpegError if the container cannot seek."""
        self.container.seek(ticks, backward=True, stream=self.stream)

    def _note(self, packet: Any) -> None:
        """Update the state by which lost frames are found."""
        if not self._has_begun and packet.pts is not None and packet.dts is not None:
            self.delay = packet.pts - packet.dts
        self._has_begun = True
        if self._avi is not None:
            self.skipped += self._avi.note(packet)
        elif not self.is_mov:
            self.skipped_bytes.note(packet.pos, packet.size)
        self._last_pos = packet.pos
        if packet.pts is not None:
            self._recent_pts.append(packet.pts)
            self._end = max(self._end, packet.pts + (packet.duration or 0))

    def unread(self) -> list[int]:
        """Presentation times, in ticks, of frames that the index lists after the last packet; call at the end."""
        if self.delay is None:
            return []
        if self._avi is not None:
            return [dts + self.delay for dts in self._avi.unread()]
        if not self.is_mov:
            return []
        entries, recent_pts = self.stream.index_entries, frozenset(self._recent_pts)
        return unread_mov_frames(entries, last_pos=self._last_pos, delay=self.delay, recent_pts=recent_pts)

    def is_truncated(self, step_s: float) -> bool:
        """Whether a film without an index ends too early; call at the end, with the usual time between frames."""
        end_s = float(self._end * self.time_base) + step_s / 2
        return is_truncated(self.path, self.format, self.stream, end_s=end_s)


_MIN_STEADY: Final = 4  # packets or frames, before a deviation can be detected


class SkippedBytes:
    """Finds bytes that FFmpeg skipped: a distance between two packets that is much longer than any before."""

    def __init__(self) -> None:
        self.credit = 0  # upper limit of the number of frames lost in the bytes skipped so far
        self._num_packets = self._num_bytes = self._longest = 0
        self._expected: int | None = None  # byte after the last packet

    def note(self, pos: int | None, size: int) -> None:
        """Register the next packet of the video stream, in file order."""
        if pos is not None:
            if self._expected is not None:
                self._measure(pos - self._expected)
            self._expected = pos
        if self._expected is not None:
            self._expected += size
        self._num_packets += 1
        self._num_bytes += size

    def _measure(self, distance: int) -> None:
        mean_size = self._num_bytes / self._num_packets
        if self._num_packets >= _MIN_STEADY and distance > max(2 * self._longest, mean_size / 2):
            self.credit += round(8 * distance / mean_size)  # lost packets may be far smaller than the mean
        else:
            self._longest = max(self._longest, distance)


class TimestampGaps:
    """Finds missing frames: longer steps between the presentation times of a film with a constant frame rate."""

    def __init__(self, skipped: SkippedBytes) -> None:
        self._skipped = skipped
        self._first: int | None = None
        self._last: int | None = None
        self._num_steps = 0
        self._is_even = True

    def before(self, pts: int, *, allowance: int = 0) -> list[int]:
        """Register the next frame in order of presentation; returns the times, in ticks, of frames missing before it.

        There are none unless the frame rate was constant so far, and enough bytes were skipped to hold them or there
        are at most `allowance` of them.
        """
        first, last, self._last = self._first, self._last, pts
        if first is None or last is None:
            self._first = pts
            return []
        num_missing = self.num_before(pts, allowance=allowance, last=last)
        step = self._step(last)
        if not num_missing and abs(pts - last - step) > max(1, step / 10):
            self._is_even = self._num_steps == 0
        self._skipped.credit = max(0, self._skipped.credit - num_missing)
        self._num_steps += 1 + num_missing
        return [last + round(n * step) for n in range(1, num_missing + 1)]

    def num_before(self, pts: int, *, allowance: int = 0, last: int | None = None) -> int:
        """How many frames would be missing before a frame at this time, without registering it."""
        last = self._last if last is None else last
        if last is None or not self._is_even or self._num_steps < _MIN_STEADY:
            return 0
        step = self._step(last)
        num_missing = round((pts - last) / step) - 1 if step > 0 else 0
        return num_missing if 0 < num_missing <= max(self._skipped.credit, allowance) else 0

    def _step(self, last: int) -> float:
        """Mean step in ticks up to the frame at `last`."""
        return (last - (self._first or 0)) / self._num_steps if self._num_steps else 0.0


_NO_PTS: Final = {("avi", "h264"), ("avi", "hevc")}  # reordered frames in AVI, for which FFmpeg guesses wrong times


class Clock:
    """Presentation times of frames: the file's own, or the sorted decoding times where the file states no others."""

    def __init__(self, reader: PacketReader) -> None:
        self.is_reliable = (reader.format, reader.stream.codec_context.name) not in _NO_PTS
        self._unused: list[int] = []  # decoding times not assigned yet, sorted
        self._dts_of: dict[int, int] = {}  # guessed pts of a key frame, which is unique, -> decoding time

    def note(self, packet: Any) -> None:
        """Register a packet that is sent to the decoder."""
        if self.is_reliable or packet.dts is None:
            return
        self.add(packet.dts)
        if packet.is_keyframe and packet.pts is not None:
            self._dts_of[packet.pts] = packet.dts

    def add(self, dts: int) -> None:
        insort(self._unused, dts)

    def pts_of(self, frame: Any) -> int | None:
        return frame.pts if self.is_reliable else self.next_pts()

    def next_pts(self) -> int | None:
        """Take the earliest decoding time that is not assigned yet."""
        return self._unused.pop(0) if self._unused else None

    def overdue(self, frame: Any | None) -> list[int]:
        """Take the times that lost frames have left before this frame, if it is a key frame; None: before the end."""
        if self.is_reliable or (frame is not None and not frame.key_frame):
            return []
        own_dts = None if frame is None else self._dts_of.pop(frame.pts, self._unused[0] if self._unused else 0)
        lost = [dts for dts in self._unused if own_dts is None or dts < own_dts]
        self._unused = self._unused[len(lost) :]
        return lost

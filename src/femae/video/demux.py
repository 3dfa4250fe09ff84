"""Packets of a film's picture stream, and those the container tells of but that cannot be had."""

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from av.error import FFmpegError
from av.stream import Discard

from femae.video.container_index import AviIndex, breaks_off, promised_by_mov
from femae.video.gaps import Holes
from femae.video.opening import open_film
from femae.video.rgb import as_fraction

__all__ = ["PacketReader"]

_MAX_ERRORS: Final = 1000  # reading errors in a row, without a packet between them, before the rest is given up
_RECENT: Final = 64  # packets; more than any decoder reorders


class PacketReader:
    """Iterates over the packets of one film; None stands for a reading error. Reading goes on after it."""

    def __init__(self, path: Path, *, delay: int | None = None) -> None:
        """`delay`: of the film's first packet, for a reader that will begin further on.

        Raises InputError as opening.open_film does.
        """
        self.path = path
        self.container, self.stream = open_film(path)
        for other in self.container.streams:
            if other is not self.stream:
                other.discard = Discard.all
        self.format: str = self.container.format.name
        self.is_mov = "mov" in self.format
        self.time_base = as_fraction(self.stream.time_base) or Fraction(1, 1000)
        self.passed_over: list[int] = []  # decoding times of frames known to be lost; whoever reads it empties it
        self.holes = Holes()
        self._avi = AviIndex(self.stream, path) if self.format == "avi" else None
        self.delay = delay  # ticks from decoding to presentation of the first packet; None: not known
        self._has_begun = delay is not None
        self._last_pos: int | None = None
        self._end = 0  # tick where the last frame's time is over
        self._recent_pts: deque[int] = deque(maxlen=_RECENT)

    def __iter__(self) -> Iterator[Any | None]:
        errors = 0
        while errors < _MAX_ERRORS:
            try:
                for packet in self.container.demux(self.stream):
                    if packet.size:  # empty ones mean "as before" in AVI, and the end elsewhere
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
        """Go to the key frame at or before this decoding time. Raises FFmpegError where the container cannot."""
        self.container.seek(ticks, backward=True, stream=self.stream)

    def _note(self, packet: Any) -> None:
        """Remember what gaps and promises are told by."""
        if not self._has_begun and packet.pts is not None and packet.dts is not None:
            self.delay = packet.pts - packet.dts
        self._has_begun = True
        if self._avi is not None:
            self.passed_over += self._avi.note(packet)
        elif not self.is_mov:
            self.holes.note(packet.pos, packet.size)
        self._last_pos = packet.pos
        if packet.pts is not None:
            self._recent_pts.append(packet.pts)
            self._end = max(self._end, packet.pts + (packet.duration or 0))

    def promised(self) -> list[int]:
        """Presentation times, in ticks, of frames that the index names beyond the last packet; call at the end."""
        if self.delay is None:
            return []
        if self._avi is not None:
            return [dts + self.delay for dts in self._avi.rest()]
        if not self.is_mov:
            return []
        entries, given_pts = self.stream.index_entries, frozenset(self._recent_pts)
        return promised_by_mov(entries, last_pos=self._last_pos, delay=self.delay, given_pts=given_pts)

    def breaks_off(self, step_s: float) -> bool:
        """Whether a film without an index of its frames ends too early; call at the end, with the usual step."""
        end_s = float(self._end * self.time_base) + step_s / 2
        return breaks_off(self.path, self.format, self.stream, end_s=end_s)

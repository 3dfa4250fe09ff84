"""Frames lost in bytes passed over: Matroska, MPEG program and transport streams go on after damage without a word."""

from typing import Final

__all__ = ["Gaps", "Holes"]

_MIN_STEADY: Final = 4  # packets or frames, before something can count as unusual


class Holes:
    """Finds bytes passed over: a stretch between two packets much longer than there ever was."""

    def __init__(self) -> None:
        self.credit = 0  # frames that may have stood in the holes found so far
        self._num_packets = self._num_bytes = self._longest = 0
        self._expected: int | None = None  # byte where the next packet would begin if nothing stood between them

    def note(self, pos: int | None, size: int) -> None:
        """Add a packet of the pictures, in the order of the file."""
        if pos is not None:
            if self._expected is not None:
                self._measure(pos - self._expected)
            self._expected = pos
        if self._expected is not None:
            self._expected += size
        self._num_packets += 1
        self._num_bytes += size

    def _measure(self, hole: int) -> None:
        mean_size = self._num_bytes / self._num_packets
        if self._num_packets >= _MIN_STEADY and hole > max(2 * self._longest, mean_size / 2):
            self.credit += round(8 * hole / mean_size)  # lost ones may be far smaller than the mean
        else:
            self._longest = max(self._longest, hole)


class Gaps:
    """Tells which frames are missing before a frame: an even film makes a longer step there."""

    def __init__(self, holes: Holes) -> None:
        self._holes = holes
        self._first: int | None = None
        self._last: int | None = None
        self._num_steps = 0
        self._is_even = True

    def before(self, pts: int, *, allowance: int = 0) -> list[int]:
        """Note the next frame in order of presentation; returns the times, in ticks, of missing ones before it.

        There are none unless the film was even so far and either a hole in the file was large enough for them or they
        are not more than `allowance`.
        """
        first, last, self._last = self._first, self._last, pts
        if first is None or last is None:
            self._first = pts
            return []
        num_missing = self.num_before(pts, allowance=allowance, last=last)
        step = self._step(last)
        if not num_missing and abs(pts - last - step) > max(1, step / 10):
            self._is_even = self._num_steps == 0
        self._holes.credit = max(0, self._holes.credit - num_missing)
        self._num_steps += 1 + num_missing
        return [last + round(n * step) for n in range(1, num_missing + 1)]

    def num_before(self, pts: int, *, allowance: int = 0, last: int | None = None) -> int:
        """How many are missing if a frame of this time comes next."""
        last = self._last if last is None else last
        if last is None or not self._is_even or self._num_steps < _MIN_STEADY:
            return 0
        step = self._step(last)
        num_missing = round((pts - last) / step) - 1 if step > 0 else 0
        return num_missing if 0 < num_missing <= max(self._holes.credit, allowance) else 0

    def _step(self, last: int) -> float:
        """Mean step up to the frame at `last`."""
        return (last - (self._first or 0)) / self._num_steps if self._num_steps else 0.0

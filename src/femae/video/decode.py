"""Decodes the frames of a film and accounts for lost ones, in order of presentation.

An undamaged film is decoded straight through, with several threads where that is faster. At the first sign of damage,
decoding restarts on one thread at the key frame before it: only then can each error be attributed to a packet, and no
frame behind the error is dropped. From there on, every packet is tracked:

- a packet that raises an error is a lost frame;
- a packet that yields no frame is lost if it follows an error and precedes the next intact key frame. Without an error,
  such packets are not frames at all (hidden reference frames, leading pictures of a film cut at its start);
- frames in skipped bytes, and frames that the index lists beyond the end of the file, are lost.
"""

from bisect import insort
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, Final

from av.error import FFmpegError

from femae.video.demux import Clock, PacketReader, TimestampGaps
from femae.video.film_parts import FilmPart
from femae.video.rgb import as_fraction

__all__ = ["CUT_OFF", "NOT_DECODED", "DecodedFrame", "FilmDecoder"]

NOT_DECODED: Final = "the frame could not be decoded"
CUT_OFF: Final = "the file ends before this frame"

_SINGLE_THREAD_UP_TO: Final = 1280 * 720  # pixels; one thread decodes such frames faster than they are processed
_WINDOW: Final = 17  # packets; no decoder delays a frame by more


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodedFrame:
    """One frame of the film; `frame` is None where it is lost."""

    frame: Any | None  # av.VideoFrame
    pts: int | None  # presentation time, in ticks of the stream's time base
    is_damaged: bool = False  # marked by the decoder, or it may depend on a lost frame
    problem: str = ""  # why frame is None


class FilmDecoder:
    """Decodes all frames of a film once. `reader` is the one in use, in the end the one that reached the end."""

    def __init__(self, reader: PacketReader, *, num_threads: int = 0, part: FilmPart | None = None) -> None:
        """`num_threads` 0: one for small frames, FFmpeg's choice for large ones.

        With several threads, some decoders do not mark damaged frames. `part`: only its frames, warm-up included.
        """
        self.reader = reader
        self._num_threads = num_threads
        self._part = part

    def frames(self) -> Generator[DecodedFrame, None, None]:
        """Yield the frames; the file is closed when they end or the generator is closed."""
        if self._part is None:
            yield from self._all()
            return
        with closing(self._all()) as frames:
            for decoded in frames:
                if decoded.pts is not None and self._part.end is not None and decoded.pts >= self._part.end:
                    return
                if decoded.pts is None or decoded.pts >= self._part.first:
                    yield decoded

    def _all(self) -> Generator[DecodedFrame, None, None]:
        """Frames from the key frame before the part to the end of the film."""
        if self._part is not None and self._part.number:
            with suppress(FFmpegError):  # cannot seek: decode from the start of the film
                self.reader.seek(self._part.first - self._part.delay)
        fast = _FastPass(self.reader, num_threads=self._num_threads)
        with closing(self.reader):
            yield from fast
        if fast.met_damage:
            careful = _careful_pass_after(fast)
            self.reader = careful.reader
            with closing(self.reader):
                yield from careful


class _FastPass:
    """Decodes straight through; stops at the first sign of damage, with `met_damage` set."""

    def __init__(self, reader: PacketReader, *, num_threads: int) -> None:
        self.reader = reader
        self._context = reader.stream.codec_context
        self._clock = Clock(reader)
        self._gaps = TimestampGaps(reader.skipped_bytes)
        if num_threads == 0 and self._context.width * self._context.height <= _SINGLE_THREAD_UP_TO:
            num_threads = 1
        self._context.thread_count = num_threads
        if num_threads != 1:
            self._context.thread_type = "AUTO"
        self._is_threaded = num_threads != 1
        self.met_damage = False
        self.num_given = 0
        self.last_pts: int | None = None

    def __iter__(self) -> Iterator[DecodedFrame]:
        num_sent = 0
        for packet in self.reader:
            if packet is None or packet.is_corrupt or self.reader.skipped:
                self.met_damage = True
                return
            self._clock.note(packet)
            num_sent += not packet.is_discard
            yield from self._decode(packet)
            if self.met_damage:
                return
        if self.reader.unread():
            self.met_damage = True
            return
        yield from self._decode(None)
        # With several threads, an error near the end can drop the frames after it silently.
        self.met_damage |= self._is_threaded and self.num_given < num_sent

    def _decode(self, packet: Any | None) -> Iterator[DecodedFrame]:
        try:
            frames = self._context.decode(packet)
        except FFmpegError:
            frames = []
            self.met_damage = True
        for frame in frames:
            pts = self._clock.pts_of(frame)
            self.met_damage |= frame.is_corrupt or (pts is not None and bool(self._gaps.before(pts)))
            if self.met_damage:
                return
            self.last_pts = pts
            self.num_given += 1
            yield DecodedFrame(frame=frame, pts=pts)


def _careful_pass_after(fast: _FastPass) -> "_CarefulPass":
    """A careful pass that continues after the last frame of the fast pass.

    It reads from the key frame before that frame in MP4 and MOV, from the start of other files.
    """
    path, delay = fast.reader.path, fast.reader.delay
    if fast.reader.is_mov and fast.last_pts is not None and delay is not None:
        reader = PacketReader(path, delay=delay)
        try:
            reader.seek(fast.last_pts - delay)
            return _CarefulPass(reader, after=fast.last_pts)
        except FFmpegError:
            reader.close()
    return _CarefulPass(PacketReader(path), num_given=fast.num_given)


class _CarefulPass:
    """Decodes on one thread and tracks every packet; drops the first `num_given` frames, or those up to `after`."""

    def __init__(self, reader: PacketReader, *, after: int | None = None, num_given: int = 0) -> None:
        self.reader = reader
        self._context = reader.stream.codec_context
        self._context.thread_count = 1
        self._clock = Clock(reader)
        self._gaps = TimestampGaps(reader.skipped_bytes)
        self._frames_per_second = round(as_fraction(reader.stream.average_rate) or 0)
        self._after = after
        self._num_to_drop = num_given
        self._num_sent = 0
        self._last_dts: int | None = None
        self._error_at: int | None = None  # number of the packet at the last error; None: recovered
        self._pending: dict[int, int] = {}  # pts -> number of a packet whose frame has not been decoded yet
        self._suspects: dict[int, tuple[int, str]] = {}  # the same after an error, with the problem if it is lost
        self._ready: list[DecodedFrame] = []
        self._last_pts: int | None = None

    def __iter__(self) -> Iterator[DecodedFrame]:
        for packet in self.reader:
            if packet is None:
                self._suspect(self._num_sent)
            else:
                self._send(packet)
            yield from self._release()
        for pts in self.reader.unread():
            if self._clock.is_reliable:
                self._suspects[pts] = (self._num_sent, CUT_OFF)
            else:
                self._clock.add(pts - (self.reader.delay or 0))
        self._take_all(self._flush())
        self._ready += [DecodedFrame(frame=None, pts=pts, problem=NOT_DECODED) for pts in self._clock.overdue(None)]
        yield from self._release(at_end=True)

    def _send(self, packet: Any) -> None:
        self._num_sent += 1
        self._last_dts = packet.dts
        self._clock.note(packet)
        if packet.is_corrupt or self.reader.skipped:
            self._suspect(self._num_sent)
        self._suspect_skipped()
        is_tracked = packet.pts is not None and self._clock.is_reliable
        if is_tracked and not packet.is_discard:
            if self._error_at is None:
                self._pending[packet.pts] = self._num_sent
            else:
                self._suspects[packet.pts] = (self._num_sent, NOT_DECODED)
        while len(self._pending) > 2 * _WINDOW:
            del self._pending[next(iter(self._pending))]
        try:
            self._take_all(self._context.decode(packet))
        except FFmpegError:
            self._suspect(self._num_sent)
            if not is_tracked:
                self._ready.append(DecodedFrame(frame=None, pts=self._clock.next_pts(), problem=NOT_DECODED))
            if packet.is_keyframe:
                self._reset_decoder()

    def _suspect_skipped(self) -> None:
        """Count the frames that the reader knows to be skipped as lost."""
        for dts in self.reader.skipped:
            if self._clock.is_reliable:
                self._suspects[dts + (self.reader.delay or 0)] = (self._num_sent - _WINDOW - 1, NOT_DECODED)
            else:
                self._clock.add(dts)
        self.reader.skipped.clear()

    def _reset_decoder(self) -> None:
        """After a lost key frame: flush and reset the decoder, so that frames stay in order."""
        self._take_all(self._flush())
        self._context.flush_buffers()
        for pts, (_, problem) in self._suspects.items():
            self._suspects[pts] = (self._num_sent - _WINDOW - 1, problem)  # will not be decoded any more

    def _flush(self) -> list[Any]:
        try:
            return list(self._context.decode(None))
        except FFmpegError:
            return []

    def _suspect(self, number: int) -> None:
        """An error at this packet: frames pending, or sent before the next intact key frame, may be lost."""
        self._error_at = number
        for pts, sent_as in self._pending.items():
            if self._last_pts is None or pts > self._last_pts:  # earlier packets were no frames at all
                self._suspects[pts] = (sent_as, NOT_DECODED)
        self._pending.clear()

    def _take_all(self, frames: list[Any]) -> None:
        for frame in frames:
            overdue = self._clock.overdue(frame)
            self._ready += [DecodedFrame(frame=None, pts=pts, problem=NOT_DECODED) for pts in overdue]
            pts = self._clock.pts_of(frame)
            if pts is None or not self._clock.is_reliable:
                self._ready.append(DecodedFrame(frame=frame, pts=pts, is_damaged=frame.is_corrupt))
                continue
            number, _ = self._suspects.pop(pts, (self._pending.pop(pts, 0), ""))
            if self._error_at is not None and not number:
                continue  # a repetition: some decoders repeat frames of a damaged stream
            if frame.is_corrupt:
                self._suspect(number)
            elif self._error_at is not None and frame.key_frame and number > self._error_at:
                self._error_at = None
            is_damaged = self._error_at is not None and number >= self._error_at
            self._ready.append(DecodedFrame(frame=frame, pts=pts, is_damaged=is_damaged))
            if all(ready.pts is not None for ready in self._ready):
                insort(self._ready, self._ready.pop(), key=lambda ready: ready.pts or 0)

    def _release(self, *, at_end: bool = False) -> Iterator[DecodedFrame]:
        """Yield the ready frames that no earlier frame can precede any more, with the lost frames before them."""
        while self._ready:
            pts = self._ready[0].pts
            if pts is not None:
                earlier = sorted(p for p in self._suspects if p < pts)
                if not at_end and self._must_wait(pts, earlier):
                    return
                for lost in earlier:
                    yield from self._give(DecodedFrame(frame=None, pts=lost, problem=self._suspects.pop(lost)[1]))
            yield from self._give(self._ready.pop(0))
        if at_end:
            for lost in sorted(self._suspects):
                yield from self._give(DecodedFrame(frame=None, pts=lost, problem=self._suspects[lost][1]))

    def _must_wait(self, pts: int, earlier: list[int]) -> bool:
        """Whether a frame before `pts` may still be decoded: one sent already, or, after an error, one not sent yet."""
        if any(self._num_sent - self._suspects[p][0] <= _WINDOW for p in earlier):
            return True
        if not self._clock.is_reliable or len(self._ready) >= _WINDOW:
            return False
        is_ahead = self._error_at is not None and self._last_dts is not None and pts > self._last_dts
        return is_ahead or self._gaps.num_before(pts, allowance=self._allowance(self._ready[0])) > 0

    def _allowance(self, decoded: DecodedFrame) -> int:
        """Number of frames (one second) that may be missing in a damaged stretch without skipped bytes."""
        return self._frames_per_second if decoded.is_damaged else 0

    def _give(self, decoded: DecodedFrame) -> Iterator[DecodedFrame]:
        """Yield a frame, after those lost in skipped bytes before it; leaves out frames of the fast pass."""
        missing = [] if decoded.pts is None else self._gaps.before(decoded.pts, allowance=self._allowance(decoded))
        if missing and decoded.frame is not None and not decoded.frame.key_frame:
            self._suspect(self._num_sent)
        for each in (*(DecodedFrame(frame=None, pts=pts, problem=NOT_DECODED) for pts in missing), decoded):
            if each.pts is not None:
                self._last_pts = each.pts
            if self._num_to_drop:
                self._num_to_drop -= 1
            elif self._after is None or each.pts is None or each.pts > self._after:
                yield each

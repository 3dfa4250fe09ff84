"""Presentation times of decoded frames, also for the one container that does not state them."""

from bisect import insort
from typing import Any, Final

from femae.video.demux import PacketReader

__all__ = ["Clock"]

_NO_PTS: Final = {("avi", "h264"), ("avi", "hevc")}  # AVI states no presentation times, and FFmpeg's guess is wrong


class Clock:
    """Presentation times of frames: the file's own, or the decoding times in order where the file has no others."""

    def __init__(self, reader: PacketReader) -> None:
        self.is_reliable = (reader.format, reader.stream.codec_context.name) not in _NO_PTS
        self._unused: list[int] = []  # decoding times
        self._dts_of: dict[int, int] = {}  # by the guessed pts, which is good enough to tell packets apart

    def note(self, packet: Any) -> None:
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
        """The earliest decoding time not used yet."""
        return self._unused.pop(0) if self._unused else None

    def overdue(self, frame: Any | None) -> list[int]:
        """Times that lost frames leave unused before this frame, where it is a key frame; before the end for None."""
        if self.is_reliable or (frame is not None and not frame.key_frame):
            return []
        own_dts = None if frame is None else self._dts_of.pop(frame.pts, self._unused[0] if self._unused else 0)
        lost = [dts for dts in self._unused if own_dts is None or dts < own_dts]
        self._unused = self._unused[len(lost) :]
        return lost

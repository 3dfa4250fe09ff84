"""What containers promise: frames that an index names, the length of the film. Against it a damaged file is judged."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO, Final

from femae.video.boxes import outer_boxes
from femae.video.remote_file import open_bytes, size_of

__all__ = ["AviIndex", "breaks_off", "promised_by_mov"]

_RECENT: Final = 64  # packets; more than any decoder reorders


def promised_by_mov(entries: Any, *, last_pos: int | None, delay: int, given_pts: Collection[int]) -> list[int]:
    """MP4, MOV: presentation times, in ticks, of the frames whose index entries come after the byte `last_pos`.

    The index knows decoding times only. Shifted by the usual delay they are the film's time slots; those that the last
    frames, `given_pts`, have not taken belong to the missing ones.
    """
    num_unread = next((n for n in range(len(entries)) if entries[-1 - n].pos == last_pos), 0)
    if not num_unread:
        return []
    tail = [entries[i] for i in range(max(0, len(entries) - num_unread - _RECENT), len(entries))]
    num_lost = sum(not entry.is_discard for entry in tail[len(tail) - num_unread :])
    slots = sorted(entry.timestamp + delay for entry in tail if not entry.is_discard)
    free = [slot for slot in slots if slot not in given_pts]
    return free[len(free) - num_lost :] if len(free) >= num_lost else slots[len(slots) - num_lost :]


class AviIndex:
    """Follows the packets of an AVI file in its index, and names those that were passed over.

    FFmpeg numbers AVI frames as it meets them; behind a passed-over one all times would be too early. The index of a
    file that was cut off is missing; then the header, which counts the frames, tells how many there should be.
    """

    def __init__(self, stream: Any, path: Path) -> None:
        entries = stream.index_entries
        self._entries = entries if len(entries) > 1 and len(entries) == stream.frames else None
        self._num_frames = stream.frames if self._entries is None and _is_cut_avi(path) else 0
        self._next = 0  # entry that should come next
        self._offset: int | None = None  # bytes from where an entry points to where its packet begins
        self._num_packets = 0
        self._last_dts = -1

    def note(self, packet: Any) -> list[int]:
        """Decoding times of the entries passed over before this packet, whose times are set right."""
        self._num_packets += 1
        if packet.dts is not None:
            self._last_dts = max(self._last_dts, packet.dts)
        if self._entries is None or packet.pos is None or packet.dts is None:
            return []
        if self._offset is None:
            self._offset = packet.pos - self._entries[0].pos
        lost: list[int] = []
        for number in range(self._next, len(self._entries)):
            entry = self._entries[number]
            if entry.pos + self._offset == packet.pos:
                self._next = number + 1
                shift = entry.timestamp - packet.dts
                packet.dts += shift
                packet.pts = None if packet.pts is None else packet.pts + shift
                return lost
            if entry.size:  # one without bytes means "as before"
                lost.append(entry.timestamp)
        self._entries = None  # not a packet of the index: nothing can be told
        return []

    def rest(self) -> list[int]:
        """Decoding times of the frames promised behind the last packet."""
        if self._entries is not None:
            behind = (self._entries[number] for number in range(self._next, len(self._entries)))
            return [entry.timestamp for entry in behind if entry.size]
        return [self._last_dts + 1 + n for n in range(self._num_frames - self._num_packets)]


def _is_cut_avi(path: Path) -> bool:
    """Whether the file is shorter than its first chunk says."""
    with open_bytes(path) as file:
        head = file.read(8)
    return head[:4] == b"RIFF" and int.from_bytes(head[4:], "little") + 8 > size_of(path)


def breaks_off(path: Path, format_name: str, stream: Any, *, end_s: float) -> bool:
    """Whether a film without an index of all its frames ends too early: `end_s` is where its last frame is over."""
    if "mov" in format_name:
        boxes = outer_boxes(path)
        return boxes[-1:] == ["?"] and "moof" in boxes  # in pieces, each with an index of its own
    if format_name == "gif":
        with open_bytes(path) as file:
            return not _is_whole_gif(file)
    stated = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if stated is None or "matroska" not in format_name:
        return False
    return end_s < int(stated[1]) * 3600 + int(stated[2]) * 60 + float(stated[3])


def _is_whole_gif(file: BinaryIO) -> bool:
    """Whether block follows block as far as the end mark."""
    _skip_colours(file, file.read(13)[10:11])
    while True:
        kind = file.read(1)
        if kind == b"\x2c":  # a picture: place and size, colours, code size, data
            _skip_colours(file, file.read(9)[8:])
            file.seek(1, 1)
        elif kind == b"\x21":  # an extension: label, data
            file.seek(1, 1)
        else:
            return kind == b"\x3b"
        while length := int.from_bytes(file.read(1), "little"):
            file.seek(length, 1)


def _skip_colours(file: BinaryIO, flags: bytes) -> None:
    if flags and flags[0] & 0x80:
        file.seek(3 << ((flags[0] & 7) + 1), 1)

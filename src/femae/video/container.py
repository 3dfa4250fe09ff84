"""Opens the container of a film, or explains in one sentence why that fails; reads its index to detect damage.

Damage is detected by comparing the frames that were read with those listed in the container's index, or with the
film's stated length. The top-level boxes of MP4 and MOV are parsed without FFmpeg, to tell what a damaged file lacks.
"""

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO, Final

import av
from av.error import FFmpegError
from av.error import PermissionError as AVPermissionError
from av.stream import Disposition

from femae.config.storage import is_remote
from femae.errors import InputError
from femae.video.storage import RemoteFile, open_bytes, size_of

__all__ = ["AviIndex", "is_truncated", "open_film", "unread_mov_frames"]

_TEXT_ART: Final = {"adf", "bin", "idf", "tty", "xbin"}  # formats as which FFmpeg renders plain text

# Metadata in other encodings than UTF-8 must not make a film unreadable; PyAV 19 and later ignore it.
_LENIENT: Final[dict[str, Any]] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


def open_film(path: Path) -> tuple[Any, Any]:
    """Open a film; returns its container (PyAV's InputContainer) and its video stream, never the cover art of a song.

    Raises InputError: missing, a folder, empty, no permission, not a film, sound only, an unsupported codec.
    """
    _check_file(path)
    try:
        # An absolute path, so that "a:b.mp4" is not parsed as a URL.
        file = RemoteFile(path) if is_remote(path) else str(path.absolute())
        container: Any = av.open(file, **_LENIENT)
    except AVPermissionError as error:
        raise InputError(f"'{path}' may not be read: ask its owner for permission") from error
    except FFmpegError as error:
        raise InputError(
            _explain_unfinished(path)
            or f"'{path}' is not a film that can be read: it is another kind of file, or damaged at its beginning"
        ) from error
    try:
        if container.format.name in _TEXT_ART:
            raise InputError(f"'{path}' is a text file, not a film: name a video file or pictures")
        return container, _video_stream(container, path)
    except InputError:
        container.close()
        raise


def _check_file(path: Path) -> None:
    """Raise InputError unless `path` is a readable file with content."""
    if is_remote(path):
        if size_of(path) == 0:
            raise InputError(f"'{path}' is empty (0 bytes): upload it again")
        return
    if path.is_dir():
        raise InputError(f"'{path}' is a folder, not a film: name a file in it")
    if not path.exists():
        raise InputError(f"'{path}' does not exist: check the name and the folder you are in")
    if not os.access(path, os.R_OK):
        raise InputError(f"'{path}' may not be read: ask its owner for permission")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"'{path}' is empty (0 bytes): copy or download it again")


def _video_stream(container: Any, path: Path) -> Any:
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        holds = "has sound but no video" if container.streams.audio else "has no video stream"
        raise InputError(f"'{path}' {holds}: name a video file")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    if stream.codec_context is None:
        raise InputError(
            f"'{path}' is in a video format that cannot be decoded here: convert it, for instance to H.264"
        )
    return stream


def _explain_unfinished(path: Path) -> str:
    """A sentence about an MP4 or MOV whose index was never written or is cut off; empty for other files."""
    boxes = set(_top_level_boxes(path))
    if "ftyp" not in boxes or boxes & {"moov", "moof"}:
        return ""
    return (
        f"'{path}' lacks its index (the 'moov' part of an MP4 or MOV), so the recording or the download was not "
        "finished: copy, download or record it again"
    )


_RECENT: Final = 64  # packets; more than any decoder reorders


def unread_mov_frames(entries: Any, *, last_pos: int | None, delay: int, recent_pts: Collection[int]) -> list[int]:
    """MP4, MOV: presentation times, in ticks, of frames whose index entries follow the packet at byte `last_pos`.

    The index holds decoding times only. Shifted by `delay`, they are the presentation times of all frames in some
    order; those that do not occur in `recent_pts`, the times of the last packets, belong to the missing frames.
    """
    num_unread = next((n for n in range(len(entries)) if entries[-1 - n].pos == last_pos), 0)
    if not num_unread:
        return []
    tail = [entries[i] for i in range(max(0, len(entries) - num_unread - _RECENT), len(entries))]
    num_lost = sum(not entry.is_discard for entry in tail[len(tail) - num_unread :])
    slots = sorted(entry.timestamp + delay for entry in tail if not entry.is_discard)
    free = [slot for slot in slots if slot not in recent_pts]
    return free[len(free) - num_lost :] if len(free) >= num_lost else slots[len(slots) - num_lost :]


class AviIndex:
    """Follows the packets of an AVI file in its index, finds those that FFmpeg skipped, and corrects times.

    FFmpeg counts AVI frames as it reads them, so that after a skipped one all times would be too early. A file that was
    cut off has no index; then the header states how many frames there should be.
    """

    def __init__(self, stream: Any, path: Path) -> None:
        entries = stream.index_entries
        self._entries = entries if len(entries) > 1 and len(entries) == stream.frames else None
        self._num_frames = stream.frames if self._entries is None and _is_cut_avi(path) else 0
        self._next = 0  # number of the next expected entry
        self._offset: int | None = None  # bytes from the position of an entry to that of its packet
        self._num_packets = 0
        self._last_dts = -1

    def note(self, packet: Any) -> list[int]:
        """Register the next packet and correct its times; returns decoding times of entries skipped before it."""
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
            if entry.size:  # an empty entry repeats the frame before it
                lost.append(entry.timestamp)
        self._entries = None  # the packet is not in the index, which is of no use then
        return []

    def unread(self) -> list[int]:
        """Decoding times of the frames that should follow the last packet."""
        if self._entries is not None:
            rest = (self._entries[number] for number in range(self._next, len(self._entries)))
            return [entry.timestamp for entry in rest if entry.size]
        return [self._last_dts + 1 + n for n in range(self._num_frames - self._num_packets)]


def _is_cut_avi(path: Path) -> bool:
    """Whether the file is shorter than its RIFF header states."""
    with open_bytes(path) as file:
        head = file.read(8)
    return head[:4] == b"RIFF" and int.from_bytes(head[4:], "little") + 8 > size_of(path)


def is_truncated(path: Path, format_name: str, stream: Any, *, end_s: float) -> bool:
    """Whether a film without an index of all its frames ends too early; `end_s` is the end of its last frame."""
    if "mov" in format_name:
        boxes = _top_level_boxes(path)
        return boxes[-1:] == ["?"] and "moof" in boxes  # fragmented MP4, each fragment with its own index
    if format_name == "gif":
        with open_bytes(path) as file:
            return not _is_whole_gif(file)
    stated = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if stated is None or "matroska" not in format_name:
        return False
    return end_s < int(stated[1]) * 3600 + int(stated[2]) * 60 + float(stated[3])


def _is_whole_gif(file: BinaryIO) -> bool:
    """Whether the chain of blocks is complete up to the trailer."""
    _skip_colour_table(file, file.read(13)[10:11])
    while True:
        kind = file.read(1)
        if kind == b"\x2c":  # image: descriptor, colour table, code size, data
            _skip_colour_table(file, file.read(9)[8:])
            file.seek(1, 1)
        elif kind == b"\x21":  # extension: label, data
            file.seek(1, 1)
        else:
            return kind == b"\x3b"
        while length := int.from_bytes(file.read(1), "little"):
            file.seek(length, 1)


def _skip_colour_table(file: BinaryIO, flags: bytes) -> None:
    if flags and flags[0] & 0x80:
        file.seek(3 << ((flags[0] & 7) + 1), 1)


def _top_level_boxes(path: Path) -> list[str]:
    """Names of the complete top-level boxes of an MP4 or MOV, in order, then "?" if the chain of boxes breaks.

    Empty for a file that does not begin like an MP4 or MOV.
    """
    found: list[str] = []
    size, at = size_of(path), 0
    with open_bytes(path) as file:
        while at < size:
            file.seek(at)
            head = file.read(16)
            length, name = int.from_bytes(head[:4], "big"), head[4:8]
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            elif length == 0:
                length = size - at
            if at == 0 and name not in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
                return []
            if length < 8 or not (name.isascii() and name.decode("ascii").isprintable()) or at + length > size:
                return [*found, "?"]
            found.append(name.decode("ascii"))
            at += length
    return found

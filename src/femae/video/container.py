"""Containers: opening a film, or explaining in one sentence why that fails; and its index, to detect damage.

Promised are the frames that an index names and the length of the film. The outermost boxes of MP4 and MOV are read
without FFmpeg, to tell what is missing in a damaged file.
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

__all__ = ["AviIndex", "breaks_off", "open_film", "outer_boxes", "promised_by_mov"]

_TEXT_ART: Final = {"adf", "bin", "idf", "tty", "xbin"}  # FFmpeg shows plain text as film; nobody means that

# Titles in other encodings than UTF-8 must not make a film unreadable; from PyAV 19 on they never do.
_LENIENT: Final[dict[str, Any]] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


def open_film(path: Path) -> tuple[Any, Any]:
    """The container (PyAV's InputContainer) and its stream of moving pictures; cover art of a song is not one.

    Raises InputError: missing, a folder, empty, no permission, not a film, sound only, a codec that cannot be decoded.
    """
    _check_file(path)
    try:
        # The absolute path, so that a name like "a:b.mp4" is not taken for a protocol.
        file = RemoteFile(path) if is_remote(path) else str(path.absolute())
        container: Any = av.open(file, **_LENIENT)
    except AVPermissionError as error:
        raise InputError(f"'{path}' may not be read: ask its owner for permission") from error
    except FFmpegError as error:
        raise InputError(
            _unfinished(path)
            or f"'{path}' is not a film that can be read: it is another kind of file, or damaged at its beginning"
        ) from error
    try:
        if container.format.name in _TEXT_ART:
            raise InputError(f"'{path}' is a text file, not a film: name a video file or pictures")
        return container, _picture_stream(container, path)
    except InputError:
        container.close()
        raise


def _check_file(path: Path) -> None:
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


def _picture_stream(container: Any, path: Path) -> Any:
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


def _unfinished(path: Path) -> str:
    """What to say of an MP4 or MOV whose index was never written or is cut; empty for other files."""
    boxes = set(outer_boxes(path))
    if "ftyp" not in boxes or boxes & {"moov", "moof"}:
        return ""
    return (
        f"'{path}' lacks its index (the 'moov' part of an MP4 or MOV), so the recording or the download was not "
        "finished: copy, download or record it again"
    )


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


def outer_boxes(path: Path) -> list[str]:
    """Names of the outermost boxes that lie wholly in the file, in order; "?" at the end where the chain breaks.

    Empty for a file that does not begin as an MP4 or MOV does.
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

"""Opening a film, or saying in one sentence why it cannot be opened."""

import os
from pathlib import Path
from typing import Any, Final

import av
from av.error import FFmpegError
from av.error import PermissionError as AVPermissionError
from av.stream import Disposition

from femae.config.storage import is_remote
from femae.errors import InputError
from femae.video.boxes import outer_boxes
from femae.video.remote_file import RemoteFile, size_of

__all__ = ["open_film"]

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
            or f"'{path}' is not a film that can be read: it is of another kind, or damaged at its beginning"
        ) from error
    try:
        if container.format.name in _TEXT_ART:
            raise InputError(f"'{path}' is a text, not a film: name a video file or pictures")
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
        holds = "holds sound but no moving pictures" if container.streams.audio else "holds no moving pictures"
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
        "finished: copy or download it again, or record it anew"
    )

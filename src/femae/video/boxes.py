"""The outermost structure of MP4 and MOV files, read without FFmpeg, to tell what is missing in a damaged one."""

from pathlib import Path

from femae.video.remote_file import open_bytes, size_of

__all__ = ["outer_boxes"]


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

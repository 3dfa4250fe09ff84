"""Writes one uploaded file of a job to disk, and stops as soon as it exceeds the limit.

Names that strangers gave to their files are shown as text, and never used as a path.
"""

import errno
import time
import unicodedata
from pathlib import Path, PurePosixPath
from typing import IO, Final
from urllib.parse import unquote

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from femae.app.jobs import Job, Upload
from femae.video.discover import PICTURE_SUFFIXES, VIDEO_SUFFIXES

__all__ = ["RefusedError", "is_picture_name", "receive_file", "shown_name", "stored_suffix"]

_BLOCK: Final = 1 << 20  # bytes written at once
_DRAIN: Final = 16 << 20  # bytes read and thrown away, so that a browser hears why an upload is refused
_LONGEST = 120  # characters


class RefusedError(Exception):
    """A request that cannot be done, with its HTTP status and one sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


async def receive_file(request: Request, job: Job, *, max_bytes: int, max_pictures: int) -> None:
    """Add the body of a request to the uploads of a job; its name stands in the header X-File-Name.

    Raises RefusedError: too large, too many, empty, disk full; then nothing of the file stays.
    """
    name = shown_name(request.headers.get("x-file-name", ""))
    path = job.folder / "in" / f"{job.num_begun + 1:04d}{stored_suffix(name)}"
    job.num_begun += 1
    try:
        _check_number(job, name, max_pictures)
        left = max_bytes - job.num_bytes
        too_large = RefusedError(
            413,
            f"'{name}' is too large: this page takes up to {max_bytes / 1e6:,.0f} MB a job; make the film smaller, "
            "start `femae app` with a larger --max-upload-mb, or use `femae predict`",
        )
        if int(request.headers.get("content-length") or 0) > left:
            raise too_large
        num_bytes = await _stream_to(path, request, job, limit=left)
        if num_bytes > left:
            raise too_large
        if num_bytes == 0:
            raise RefusedError(400, f"'{name}' is empty (0 bytes): copy or record it again")
    except ClientDisconnect as error:
        path.unlink(missing_ok=True)
        raise RefusedError(400, "the upload was interrupted") from error
    except RefusedError:
        path.unlink(missing_ok=True)
        await _drain(request)
        raise
    except ValueError as error:
        raise RefusedError(400, "the upload's length is not a number") from error
    except OSError as error:
        path.unlink(missing_ok=True)
        raise _explained(error, job) from error
    job.num_bytes += num_bytes
    job.uploads.append(Upload(path=path, name=name, num_bytes=num_bytes))


def _explained(error: OSError, job: Job) -> RefusedError:
    if job.cancelled.is_set():
        return RefusedError(409, "this job was cancelled")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RefusedError(507, "the disk of the computer that runs femae is full: make room there")
    return RefusedError(507, f"the computer that runs femae cannot store the file: {error.strerror}")


def _check_number(job: Job, name: str, max_pictures: int) -> None:
    if job.state != "uploading":
        raise RefusedError(409, "this job no longer accepts files")
    if job.uploads and not all(is_picture_name(one) for one in (name, job.uploads[0].name)):
        raise RefusedError(400, "a job holds either one film or pictures: send each film separately")
    if job.num_begun > max_pictures:
        raise RefusedError(413, f"this page takes up to {max_pictures} pictures a job; use `femae predict` for more")


async def _stream_to(path: Path, request: Request, job: Job, *, limit: int) -> int:
    """Write the body; stops as soon as it is longer than `limit`. Returns the number of bytes read."""
    total, block = 0, bytearray()
    file: IO[bytes] = await run_in_threadpool(path.open, "xb")
    try:
        async for chunk in request.stream():
            total += len(chunk)
            job.touched_s = time.monotonic()
            if total > limit:
                return total
            if job.cancelled.is_set():
                raise RefusedError(409, "this job was cancelled")
            block += chunk
            if len(block) >= _BLOCK:
                await run_in_threadpool(file.write, bytes(block))
                block.clear()
        await run_in_threadpool(file.write, bytes(block))
    finally:
        await run_in_threadpool(file.close)
    return total


async def _drain(request: Request) -> None:
    """Read on for a little: a browser that is still sending does not look at the answer."""
    num_bytes = 0
    try:
        async for chunk in request.stream():
            num_bytes += len(chunk)
            if num_bytes > _DRAIN:
                return
    except (ClientDisconnect, RuntimeError):  # gone, or nothing is left to read
        return


def shown_name(header: str) -> str:
    """The file name in an upload's header (percent-encoded UTF-8) as one line of plain text, without any folder."""
    text = unquote(header, errors="replace").replace("\\", "/").rsplit("/", 1)[-1]
    # Control characters, and marks that turn the direction of writing, would make a name look like another.
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp")).strip()
    if len(text) > _LONGEST:
        suffix = PurePosixPath(text).suffix[:10]
        text = text[: _LONGEST - len(suffix) - 1] + "…" + suffix
    return text if text.strip(". ") else "unnamed"


def stored_suffix(name: str) -> str:
    """The suffix under which a file is stored: one of those we know, or `.bin`."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if suffix in PICTURE_SUFFIXES | VIDEO_SUFFIXES else ".bin"


def is_picture_name(name: str) -> bool:
    """Whether a name ends as pictures do."""
    return PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES

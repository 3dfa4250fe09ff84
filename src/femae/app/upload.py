"""Streams one uploaded file of a job to disk, and stops as soon as it exceeds the size limit.

The file name that a client sends is untrusted: it is cleaned and shown as text, and never used as a path.
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

__all__ = ["RequestError", "is_picture_name", "receive_file", "shown_name", "stored_suffix"]

_BLOCK: Final = 1 << 20  # bytes written at once
_MAX_DRAIN: Final = 16 << 20  # bytes read and discarded, so that a browser reads why its upload was refused
_MAX_NAME: Final = 120  # characters


class RequestError(Exception):
    """A request that is refused, with the HTTP status and one sentence for the user."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


async def receive_file(request: Request, job: Job, *, max_bytes: int, max_pictures: int) -> None:
    """Add the body of a request to the uploads of a job; the header X-File-Name holds the file's name.

    Raises RequestError: too large, too many, empty, interrupted, disk full; the file is then deleted.
    """
    name = shown_name(request.headers.get("x-file-name", ""))
    path = job.folder / "in" / f"{job.num_started + 1:04d}{stored_suffix(name)}"
    job.num_started += 1
    try:
        _check_accepts(job, name, max_pictures)
        left = max_bytes - job.num_bytes
        too_large = RequestError(
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
            raise RequestError(400, f"'{name}' is empty (0 bytes): copy or record it again")
    except ClientDisconnect as error:
        path.unlink(missing_ok=True)
        raise RequestError(400, "the upload was interrupted") from error
    except RequestError:
        path.unlink(missing_ok=True)
        await _drain(request)
        raise
    except ValueError as error:
        raise RequestError(400, "the upload's length is not a number") from error
    except OSError as error:
        path.unlink(missing_ok=True)
        raise _storage_error(error, job) from error
    job.num_bytes += num_bytes
    job.uploads.append(Upload(path=path, name=name, num_bytes=num_bytes))


def _storage_error(error: OSError, job: Job) -> RequestError:
    if job.cancelled.is_set():
        return RequestError(409, "this job was cancelled")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RequestError(507, "the disk of the computer that runs femae is full: make room there")
    return RequestError(507, f"the computer that runs femae cannot store the file: {error.strerror}")


def _check_accepts(job: Job, name: str, max_pictures: int) -> None:
    """Raise RequestError unless the job accepts one more file of this name."""
    if job.state != "uploading":
        raise RequestError(409, "this job no longer accepts files")
    if job.uploads and not all(is_picture_name(one) for one in (name, job.uploads[0].name)):
        raise RequestError(400, "a job holds either one film or pictures: send each film separately")
    if job.num_started > max_pictures:
        raise RequestError(413, f"this page takes up to {max_pictures} pictures a job; use `femae predict` for more")


async def _stream_to(path: Path, request: Request, job: Job, *, limit: int) -> int:
    """Write the body to `path` until it ends or exceeds `limit` bytes; returns the number of bytes received."""
    total, block = 0, bytearray()
    file: IO[bytes] = await run_in_threadpool(path.open, "xb")
    try:
        async for chunk in request.stream():
            total += len(chunk)
            job.last_activity_s = time.monotonic()
            if total > limit:
                return total
            if job.cancelled.is_set():
                raise RequestError(409, "this job was cancelled")
            block += chunk
            if len(block) >= _BLOCK:
                await run_in_threadpool(file.write, bytes(block))
                block.clear()
        await run_in_threadpool(file.write, bytes(block))
    finally:
        await run_in_threadpool(file.close)
    return total


async def _drain(request: Request) -> None:
    """Read and discard the rest of the body, up to a limit: a browser reads the response only after sending."""
    num_bytes = 0
    try:
        async for chunk in request.stream():
            num_bytes += len(chunk)
            if num_bytes > _MAX_DRAIN:
                return
    except (ClientDisconnect, RuntimeError):  # the client has gone, or the body was read to its end
        return


def shown_name(header: str) -> str:
    """The file name in an upload's header (percent-encoded UTF-8) as one line of plain text, without its folder."""
    text = unquote(header, errors="replace").replace("\\", "/").rsplit("/", 1)[-1]
    # Control characters and bidirectional marks could make a name look like another.
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp")).strip()
    if len(text) > _MAX_NAME:
        suffix = PurePosixPath(text).suffix[:10]
        text = text[: _MAX_NAME - len(suffix) - 1] + "…" + suffix
    return text if text.strip(". ") else "unnamed"


def stored_suffix(name: str) -> str:
    """The suffix a file is stored with: its own where it is a known one, else `.bin`."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if suffix in PICTURE_SUFFIXES | VIDEO_SUFFIXES else ".bin"


def is_picture_name(name: str) -> bool:
    """Whether a name has the suffix of a picture."""
    return PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES

"""Remote files, in object stores and on web servers, through fsspec: lists, checks, reads, copies and writes them.

Remote paths are those of universal_pathlib (config.storage). Failed requests are retried for some seconds before an
InputError names the address and the reason. `RemoteFile` reads a film at any position, without a local copy.
"""

import io
import re
import shutil
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, Final, TypeVar, cast
from urllib.parse import unquote, urlsplit

from femae.config.storage import folder_address, is_remote
from femae.errors import FemaeError, InputError, OutputError

__all__ = [
    "RemoteFile",
    "address",
    "file_name",
    "forget_listings",
    "is_address",
    "list_folder",
    "list_sizes",
    "local_copy",
    "matches",
    "open_bytes",
    "read_range",
    "read_remote",
    "remote_kind",
    "remove",
    "size_of",
    "supports_ranges",
    "upload",
    "version_of",
]

_T = TypeVar("_T")
_WAITS_S: Final = (0.2, 0.5, 1.0, 2.0, 4.0)  # between retries
_CHUNK: Final = 16 << 20  # bytes of one request of a copy
_WEB: Final = ("http", "https")
_STORES: Final[set[Any]] = set()  # file systems in use, which cache their listings
_ATOMIC: Final = ("s3", "gs", "gcs", "az", "abfs", "hf", "memory")  # where a file appears only when complete


def is_address(text: str) -> bool:
    """Whether an input is an address: s3://..., https://..., file://..."""
    return re.match(r"[a-z][a-z0-9+]*://", text) is not None


def forget_listings() -> None:
    """Clear the cached listings of all file systems used in this process."""
    for store in _STORES:
        store.invalidate_cache()


def file_name(path: Path) -> str:
    """The name of a file; of a web address without its query."""
    if is_remote(path) and path.protocol in _WEB:  # type: ignore[attr-defined]
        return unquote(urlsplit(str(path)).path.rsplit("/", 1)[-1])
    return path.name


def remote_kind(path: Path) -> str:
    """Returns "file", "folder", or "" where there is nothing. Raises InputError for a failed request."""
    try:
        kind = str(_info(path)["type"])
    except FileNotFoundError:
        return ""
    return "folder" if kind == "directory" else "file"


def list_folder(path: Path) -> list[Path]:
    """The files of a folder, without subfolders, in no particular order. Raises FileNotFoundError, InputError."""
    found = _retry(path, lambda: _fs(path).ls(_key(path), detail=True))
    names = [str(entry["name"]) for entry in found if entry["type"] == "file"]
    return [_same_store(path, name) for name in names if name[-1] != "/"]


def matches(text: str) -> list[Path]:
    """Files that match a pattern such as s3://bucket/*/a.mp4, in no particular order. Raises as `address` does."""
    path = address(text)
    if path.protocol in _WEB:  # type: ignore[attr-defined]
        raise InputError(f"'{text}': web servers cannot list files: give each address, or a table of them")
    found = _retry(path, lambda: _fs(path).glob(_key(path), detail=True))
    return [_same_store(path, name) for name, entry in found.items() if entry["type"] == "file" and name[-1] != "/"]


def version_of(path: Path) -> tuple[str, int, str]:
    """(address, bytes, version tag) of a local or remote file; the tag changes with the content. Raises OSError."""
    if not is_remote(path):
        state = path.stat()
        return str(path.absolute()), state.st_size, str(state.st_mtime_ns)
    try:
        info = _info(path)
    except InputError as error:
        raise OSError(str(error)) from error
    tag = next((info[name] for name in ("ETag", "etag", "LastModified", "mtime", "created") if info.get(name)), "")
    return str(path), int(info.get("size") or 0), str(tag)


def read_remote(path: Path) -> bytes:
    """The content of a small file. Raises FileNotFoundError, InputError."""
    return bytes(_retry(path, lambda: _fs(path).cat_file(_key(path))))


def read_range(path: Path, start: int, end: int, *, size: int) -> bytes:
    """Bytes from `start` to before `end` of a file of `size` bytes; empty where end <= start. Raises InputError."""
    if end <= start:
        return b""
    try:
        data = _retry(path, lambda: _request_range(path, start, end, size=size))
    except FileNotFoundError:
        raise InputError(f"'{path}' does not exist any more") from None
    return data[: end - start]


def supports_ranges(path: Path) -> bool:
    """Whether a file can be read in ranges; some web servers send only whole files. Raises InputError."""
    try:
        if _info(path).get("size") is None:
            return False
        if path.protocol not in _WEB:  # type: ignore[attr-defined]
            return True
        return len(bytes(_retry(path, lambda: _fs(path).cat_file(_key(path), start=0, end=1)))) == 1
    except FileNotFoundError:
        raise InputError(f"'{path}' does not exist: check the address") from None


@contextmanager
def local_copy(path: Path) -> Iterator[Path]:
    """A temporary copy of a remote file, with the same name, that is deleted at the end of the `with` block.

    Raises InputError: it does not exist, may not be read, does not fit on the disk, or cannot be copied after retries.
    """
    with TemporaryDirectory(prefix="femae-") as folder:
        copy = Path(folder) / (file_name(path) or "film")
        try:
            size = _info(path).get("size")
            if size is not None and shutil.disk_usage(folder).free < int(size):
                raise InputError(
                    f"'{path}' has {int(size) / 1e9:.1f} GB, more than is free in {folder}: free some space, or set "
                    "TMPDIR to a larger disk"
                )
            with copy.open("wb") as file:
                if size is None:
                    file.write(read_remote(path))
                else:
                    _copy_to(path, file, size=int(size))
        except FileNotFoundError:
            raise InputError(f"'{path}' does not exist: check the address") from None
        except OSError as error:
            raise InputError(f"'{path}' cannot be copied to {folder}: {error.strerror or error}") from error
        yield copy


def upload(file: Path, path: Path) -> None:
    """Copy a local file to a remote path, where it appears only when complete. Raises OutputError."""
    fs, key = _fs(path), _key(path)

    def put() -> None:
        if path.protocol in _ATOMIC:  # type: ignore[attr-defined]
            fs.put_file(str(file), key)
            return
        fs.makedirs(key.rpartition("/")[0], exist_ok=True)
        fs.put_file(str(file), f"{key}.part")
        fs.mv(f"{key}.part", key)

    try:
        _retry(path, put)
    except (FileNotFoundError, InputError) as error:
        reason = str(error.__cause__ or error)
        raise OutputError(
            f"cannot write {path}: {reason}; check that the bucket or folder exists and that you may write there"
        ) from error


def list_sizes(folder: Path) -> Iterator[tuple[str, int]]:
    """(relative path, bytes) of each file below a folder; none if it does not exist. Raises InputError."""
    root = _key(folder).rstrip("/")
    _fs(folder).invalidate_cache()
    try:
        found = _retry(folder, lambda: _fs(folder).find(root, detail=True))
    except FileNotFoundError:
        return
    _fs(folder).invalidate_cache()  # frees the cached listing
    while found:
        name, entry = found.popitem()
        yield name.removeprefix(root).lstrip("/"), int(entry["size"] or 0)


def remove(path: Path) -> None:
    """Remove one file. Raises FileNotFoundError, InputError."""
    _retry(path, lambda: _fs(path).rm_file(_key(path)))


def _copy_to(path: Path, file: Any, *, size: int) -> None:
    """Copy in chunks, so that a lost connection costs one chunk; a server without ranges sends all at once."""
    start = 0
    while start < size:
        end = min(start + _CHUNK, size)
        chunk = _retry(path, lambda start=start, end=end: _request_range(path, start, end, size=size))  # type: ignore[misc]
        file.write(chunk)
        start += len(chunk)


def _request_range(path: Path, start: int, end: int, *, size: int) -> bytes:
    """One range request. Returns the whole file if the server ignores ranges and `start` is 0."""
    data = bytes(_fs(path).cat_file(_key(path), start=start, end=end))
    if len(data) == size and start == 0:
        return data
    if len(data) != end - start:
        raise ConnectionError(f"{len(data)} of {end - start} bytes were received")
    return data


def _info(path: Path) -> dict[str, Any]:
    """fsspec's info of a file or folder. Raises FileNotFoundError, InputError."""
    return dict(_retry(path, lambda: _fs(path).info(_key(path))))


def _retry(path: Path, request: Callable[[], _T]) -> _T:
    """The result of a request, retried with increasing waits. Raises FileNotFoundError, InputError."""
    for wait_s in (*_WAITS_S, None):
        try:
            return request()
        except FemaeError:
            raise
        except Exception as error:  # the clients' exceptions have no common base class
            # fsspec raises FileNotFoundError for any HTTP error, with the real one as its cause.
            cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
            status = getattr(cause, "status", 0)
            if status in (401, 403) or isinstance(cause, PermissionError):
                raise InputError(f"'{path}' may not be read: check this machine's credentials ({cause})") from error
            if status in (404, 410) or isinstance(cause, FileNotFoundError):
                raise FileNotFoundError(str(path)) from error
            if wait_s is None:
                reason = str(cause) or type(cause).__name__
                raise InputError(f"'{path}' cannot be read, after {len(_WAITS_S) + 1} tries: {reason}") from error
            time.sleep(wait_s)
    raise AssertionError


def address(text: str) -> Path:
    """The path of an address: universal_pathlib's where it is remote.

    Raises InputError for an unknown protocol, MissingDependencyError without the protocol's package.
    """
    try:
        return folder_address(text)
    except ValueError as error:
        raise InputError(f"'{text}' is not an address that can be read: {error}") from None


def _fs(path: Path) -> Any:
    store: Any = path.fs  # type: ignore[attr-defined]
    _STORES.add(store)
    return store


def _key(path: Path) -> str:
    """The path's name within its file system."""
    return str(path.path)  # type: ignore[attr-defined]


def _same_store(path: Path, key: str) -> Path:
    """The path of another file of the same file system."""
    return folder_address(key if is_address(key) else f"{path.protocol}://{key.lstrip('/')}")  # type: ignore[attr-defined]


_BLOCK: Final = 4 << 20  # bytes of one request of RemoteFile
_MAX_BLOCKS: Final = 6  # in memory; demuxing alternates between several places (video and sound, data and index)


def open_bytes(path: Path) -> BinaryIO:
    """Open a local or remote file for reading. Raises OSError, InputError."""
    return cast("BinaryIO", RemoteFile(path)) if is_remote(path) else path.open("rb")


def size_of(path: Path) -> int:
    """Size in bytes of a local or remote file. Raises OSError."""
    return version_of(path)[1]


class RemoteFile(io.RawIOBase):
    """A remote file opened for reading, with a cache of blocks and a prefetch of the next block.

    Failed requests are retried for some seconds; then reading raises InputError. It is not detected when the file is
    replaced by another of the same size while it is read.
    """

    def __init__(self, path: Path) -> None:
        """`path`: universal_pathlib's. Raises InputError: it does not exist, or may not be read."""
        super().__init__()
        self.name = file_name(path)  # from which FFmpeg guesses the format
        self._path, self._position = path, 0
        self._blocks: OrderedDict[int, Future[bytes]] = OrderedDict()  # by number, the most recently used last
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="femae-fetch")
        try:
            self._size = size_of(path)
        except OSError as error:
            raise InputError(f"'{path}' cannot be read: {error}") from error

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read into the buffer, at most to the end of a block; returns the number of bytes, 0 at the end."""
        view = memoryview(buffer).cast("B")
        number, skip = divmod(self._position, _BLOCK)
        count = min(len(view), _BLOCK - skip, self._size - self._position)
        if count <= 0:
            return 0
        data = self._block(number)
        view[:count] = data[skip : skip + count]
        self._position += count
        return count

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._blocks.clear()
        super().close()

    def _block(self, number: int) -> bytes:
        if number - 1 in self._blocks and (number + 1) * _BLOCK < self._size:
            self._fetch(number + 1)  # sequential reading: prefetch
        block = self._fetch(number)
        while len(self._blocks) > _MAX_BLOCKS:
            self._blocks.popitem(last=False)[1].cancel()
        try:
            return block.result()
        except BaseException:
            self._blocks.pop(number, None)  # so that the next read requests it again
            raise

    def _fetch(self, number: int) -> "Future[bytes]":
        if number not in self._blocks:
            self._blocks[number] = self._pool.submit(self._read_block, number)
        self._blocks.move_to_end(number)
        return self._blocks[number]

    def _read_block(self, number: int) -> bytes:
        start = number * _BLOCK
        return read_range(self._path, start, min(start + _BLOCK, self._size), size=self._size)

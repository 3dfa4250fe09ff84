"""Films and pictures in object stores and on web servers: listed, checked, read or copied, through fsspec.

Addresses are universal_pathlib's paths (config.storage). What a store cannot do at once is tried again for some
seconds; after that InputError says which address and why. A film there is a file that can be read from any place,
without a copy of it on this machine.
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
    "gives_pieces",
    "is_address",
    "list_folder",
    "list_sizes",
    "local_copy",
    "matches",
    "open_bytes",
    "read_piece",
    "read_remote",
    "remote_kind",
    "remove",
    "size_of",
    "state_of",
    "upload",
]

_T = TypeVar("_T")
_WAITS_S: Final = (0.2, 0.5, 1.0, 2.0, 4.0)  # between tries
_PIECE: Final = 16 << 20  # bytes asked for at once
_WEB: Final = ("http", "https")
_STORES: Final[set[Any]] = set()  # file systems in use; they remember what they listed
_WHOLE: Final = ("s3", "gs", "gcs", "az", "abfs", "hf", "memory")  # a file is there when it is whole


def is_address(text: str) -> bool:
    """Whether a text on the command line is an address: s3://..., https://..., file://..."""
    return re.match(r"[a-z][a-z0-9+]*://", text) is not None


def forget_listings() -> None:
    """What stores were asked before in this process counts no more."""
    for store in _STORES:
        store.invalidate_cache()


def file_name(path: Path) -> str:
    """The name of a file; of a web address without what follows `?`."""
    if is_remote(path) and path.protocol in _WEB:  # type: ignore[attr-defined]
        return unquote(urlsplit(str(path)).path.rsplit("/", 1)[-1])
    return path.name


def remote_kind(path: Path) -> str:
    """`file`, `folder`, or empty where there is nothing. Raises InputError where the store does not say."""
    try:
        kind = str(_info(path)["type"])
    except FileNotFoundError:
        return ""
    return "folder" if kind == "directory" else "file"


def list_folder(path: Path) -> list[Path]:
    """The files of a folder, not of its subfolders, in no order. Raises InputError."""
    found = _patiently(path, lambda: _fs(path).ls(_key(path), detail=True))
    names = [str(entry["name"]) for entry in found if entry["type"] == "file"]
    return [_beside(path, name) for name in names if name[-1] != "/"]


def matches(text: str) -> list[Path]:
    """The files that a pattern such as s3://bucket/*/a.mp4 stands for, in no order. Raises InputError, ConfigError."""
    path = address(text)
    if path.protocol in _WEB:  # type: ignore[attr-defined]
        raise InputError(f"'{text}': web servers cannot list files: give each address, or a table of them")
    found = _patiently(path, lambda: _fs(path).glob(_key(path), detail=True))
    return [_beside(path, name) for name, entry in found.items() if entry["type"] == "file" and name[-1] != "/"]


def state_of(path: Path) -> tuple[str, int, str]:
    """(address, bytes, what changes with the contents) of a file here or there. Raises OSError."""
    if not is_remote(path):
        state = path.stat()
        return str(path.absolute()), state.st_size, str(state.st_mtime_ns)
    try:
        info = _info(path)
    except InputError as error:
        raise OSError(str(error)) from error
    mark = next((info[name] for name in ("ETag", "etag", "LastModified", "mtime", "created") if info.get(name)), "")
    return str(path), int(info.get("size") or 0), str(mark)


def read_remote(path: Path) -> bytes:
    """The whole of a small file. Raises FileNotFoundError, InputError."""
    return bytes(_patiently(path, lambda: _fs(path).cat_file(_key(path))))


def read_piece(path: Path, start: int, end: int, *, size: int) -> bytes:
    """Bytes from `start` to before `end` of a file of `size` bytes; empty where end <= start. Raises InputError."""
    if end <= start:
        return b""
    try:
        data = _patiently(path, lambda: _piece(path, start, end, size=size))
    except FileNotFoundError:
        raise InputError(f"'{path}' does not exist any more") from None
    return data[: end - start]


def gives_pieces(path: Path) -> bool:
    """Whether a file can be read from any place; a web server may give only the whole. Raises InputError."""
    try:
        if _info(path).get("size") is None:
            return False
        if path.protocol not in _WEB:  # type: ignore[attr-defined]
            return True
        return len(bytes(_patiently(path, lambda: _fs(path).cat_file(_key(path), start=0, end=1)))) == 1
    except FileNotFoundError:
        raise InputError(f"'{path}' does not exist: check the address") from None


@contextmanager
def local_copy(path: Path) -> Iterator[Path]:
    """While it lasts, a copy of a remote file under its own name in a temporary folder.

    Raises InputError: it is not there, may not be read, does not fit on the disk, or breaks off again and again.
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
                    _fetch(path, file, size=int(size))
        except FileNotFoundError:
            raise InputError(f"'{path}' does not exist: check the address") from None
        except OSError as error:
            raise InputError(f"'{path}' cannot be copied to {folder}: {error.strerror or error}") from error
        yield copy


def upload(file: Path, path: Path) -> None:
    """A file of this machine to an address, where it appears whole or not at all. Raises OutputError."""
    fs, key = _fs(path), _key(path)

    def put() -> None:
        if path.protocol in _WHOLE:  # type: ignore[attr-defined]
            fs.put_file(str(file), key)
            return
        fs.makedirs(key.rpartition("/")[0], exist_ok=True)
        fs.put_file(str(file), f"{key}.part")
        fs.mv(f"{key}.part", key)

    try:
        _patiently(path, put)
    except (FileNotFoundError, InputError) as error:
        reason = str(error.__cause__ or error)
        raise OutputError(
            f"cannot write {path}: {reason}; check that the bucket or folder exists and that you may write there"
        ) from error


def list_sizes(folder: Path) -> Iterator[tuple[str, int]]:
    """(path in there, bytes) of each file under an address; none where there is nothing. Raises InputError."""
    root = _key(folder).rstrip("/")
    _fs(folder).invalidate_cache()
    try:
        found = _patiently(folder, lambda: _fs(folder).find(root, detail=True))
    except FileNotFoundError:
        return
    _fs(folder).invalidate_cache()  # it would keep all of them
    while found:
        name, entry = found.popitem()
        yield name.removeprefix(root).lstrip("/"), int(entry["size"] or 0)


def remove(path: Path) -> None:
    """Remove one file. Raises FileNotFoundError, InputError."""
    _patiently(path, lambda: _fs(path).rm_file(_key(path)))


def _fetch(path: Path, file: Any, *, size: int) -> None:
    """Piece by piece, so that a cut connection costs one piece; a server that knows no pieces gives all at once."""
    start = 0
    while start < size:
        end = min(start + _PIECE, size)
        piece = _patiently(path, lambda start=start, end=end: _piece(path, start, end, size=size))  # type: ignore[misc]
        file.write(piece)
        start += len(piece)


def _piece(path: Path, start: int, end: int, *, size: int) -> bytes:
    data = bytes(_fs(path).cat_file(_key(path), start=start, end=end))
    if len(data) == size and start == 0:
        return data
    if len(data) != end - start:
        raise ConnectionError(f"{len(data)} of {end - start} bytes were received")
    return data


def _info(path: Path) -> dict[str, Any]:
    """What the store says of a file. Raises FileNotFoundError, InputError."""
    return dict(_patiently(path, lambda: _fs(path).info(_key(path))))


def _patiently(path: Path, ask: Callable[[], _T]) -> _T:
    """What a store answers, asked again while it is busy. Raises FileNotFoundError, InputError."""
    for wait_s in (*_WAITS_S, None):
        try:
            return ask()
        except FemaeError:
            raise
        except Exception as error:  # clients of stores have errors of their own
            # a web server's answer, and that there was none, come as the cause of a FileNotFoundError
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
    """universal_pathlib's path. Raises InputError for an address of no known kind, MissingDependencyError."""
    try:
        return folder_address(text)
    except ValueError as error:
        raise InputError(f"'{text}' is not an address that can be read: {error}") from None


def _fs(path: Path) -> Any:
    store: Any = path.fs  # type: ignore[attr-defined]
    _STORES.add(store)
    return store


def _key(path: Path) -> str:
    """The name that its file system has for it."""
    return str(path.path)  # type: ignore[attr-defined]


def _beside(path: Path, key: str) -> Path:
    """The path of another file of the same store."""
    return folder_address(key if is_address(key) else f"{path.protocol}://{key.lstrip('/')}")  # type: ignore[attr-defined]


_BLOCK: Final = 4 << 20  # bytes asked for at once
_KEPT: Final = 6  # blocks; containers keep pictures and sound, or data and index, in some places at once


def open_bytes(path: Path) -> BinaryIO:
    """A file here or in a store, to be read. Raises OSError, InputError."""
    return cast("BinaryIO", RemoteFile(path)) if is_remote(path) else path.open("rb")


def size_of(path: Path) -> int:
    """Bytes of a file here or in a store. Raises OSError."""
    return state_of(path)[1]


class RemoteFile(io.RawIOBase):
    """Read only. Keeps some blocks in memory, and fetches the next one while the last is in use.

    What a store cannot do at once is tried again for some seconds; then reading raises InputError. A file that is
    replaced by another of the same size while it is read is not noticed.
    """

    def __init__(self, path: Path) -> None:
        """`path`: universal_pathlib's. Raises InputError: not there, may not be read."""
        super().__init__()
        self.name = file_name(path)  # by which FFmpeg guesses what it is
        self._path, self._at = path, 0
        self._blocks: OrderedDict[int, Future[bytes]] = OrderedDict()  # by number, the last used at the end
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
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as the block goes; 0 at the end."""
        view = memoryview(buffer).cast("B")
        number, skip = divmod(self._at, _BLOCK)
        count = min(len(view), _BLOCK - skip, self._size - self._at)
        if count <= 0:
            return 0
        data = self._block(number)
        view[:count] = data[skip : skip + count]
        self._at += count
        return count

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._blocks.clear()
        super().close()

    def _block(self, number: int) -> bytes:
        if number - 1 in self._blocks and (number + 1) * _BLOCK < self._size:
            self._fetch(number + 1)  # whoever reads one after the other will want it
        wanted = self._fetch(number)
        while len(self._blocks) > _KEPT:
            self._blocks.popitem(last=False)[1].cancel()
        try:
            return wanted.result()
        except BaseException:
            self._blocks.pop(number, None)  # another try may find it
            raise

    def _fetch(self, number: int) -> "Future[bytes]":
        if number not in self._blocks:
            self._blocks[number] = self._pool.submit(self._piece, number)
        self._blocks.move_to_end(number)
        return self._blocks[number]

    def _piece(self, number: int) -> bytes:
        start = number * _BLOCK
        return read_piece(self._path, start, min(start + _BLOCK, self._size), size=self._size)

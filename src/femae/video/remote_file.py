"""A film in a store as a file that can be read from any place, without a copy of it on this machine."""

import io
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from femae.config.storage import is_remote
from femae.errors import InputError
from femae.video.storage import file_name, read_piece, state_of

__all__ = ["RemoteFile", "open_bytes", "size_of"]

_BLOCK: Final = 4 << 20  # bytes asked for at once
_KEPT: Final = 6  # blocks; containers keep pictures and sound, or data and index, in some places at once


def open_bytes(path: Path) -> BinaryIO:
    """A file here or in a store, to be read. Raises OSError, InputError."""
    return cast("BinaryIO", RemoteFile(path)) if is_remote(path) else path.open("rb")


def size_of(path: Path) -> int:
    """Bytes of a file here or in a store. Raises OSError."""
    return state_of(path)[1]


class RemoteFile(io.RawIOBase):
    """Read only. Keeps some blocks in memory, and asks for the next one while the last is worked off.

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

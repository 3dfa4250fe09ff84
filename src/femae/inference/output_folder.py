"""The output folder: unique names, locks, and uploads to an object store.

A local folder is written in place, an object store through a temporary folder. No two inputs of a run have outputs of
the same name, and one process at a time writes the outputs of a name.
"""

import errno
import glob
import os
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from femae.config.storage import is_remote
from femae.disk_table import DiskTable
from femae.errors import ConfigError, FemaeError, OutputError
from femae.video.storage import local_copy, remote_kind, remove, upload

__all__ = ["OutputFolder", "UniqueStems", "lock_outputs"]

_MAX_STEM_BYTES: Final = 220  # file systems allow names of 255 bytes; the rest is for suffixes


class OutputFolder:
    """The folder of the outputs; `written` uploads files made in the folder that `open` gave."""

    def __init__(self, address: Path) -> None:
        """Raises ConfigError for a read-only address."""
        self.address = address
        self.remote = is_remote(address)
        if self.remote and address.protocol in ("http", "https"):  # type: ignore[attr-defined]
            raise ConfigError(f"--out {address}: web servers can only be read; give a folder, or s3://...")

    @contextmanager
    def open(self) -> Iterator[Path]:
        """The folder to write into; for an address a temporary one, which is deleted afterwards."""
        if not self.remote:
            yield self.address
            return
        with TemporaryDirectory(prefix="femae-out-") as folder:
            yield Path(folder)

    @contextmanager
    def reading(self, name: str, *, folder: Path) -> Iterator[Path]:
        """A local path of the existing output `name`. Raises InputError if a download fails."""
        if not self.remote:
            yield folder / name
            return
        with local_copy(self.address / name) as path:
            yield path

    def has(self, name: str) -> bool:
        """Whether an output exists. Raises InputError if a store cannot be asked."""
        path = self.address / name
        return remote_kind(path) == "file" if self.remote else path.is_file()

    def drop(self, name: str) -> None:
        """Remove an output that is no longer needed; errors are ignored."""
        with suppress(OSError, FemaeError):
            path = self.address / name
            if self.remote:
                remove(path)
            else:
                for rest in (path, *path.parent.glob(f"{glob.escape(path.name)}.*.part")):  # of dead processes
                    rest.unlink()
                path.parent.rmdir()  # fails, ignored, until the last one is gone

    def written(self, paths: Iterable[Path], *, folder: Path) -> list[Path]:
        """Paths of finished outputs in `folder` -> their final paths, uploaded if remote. Raises OutputError."""
        final_paths = []
        for path in paths:
            final_paths.append(self._final_path(path, folder))
            if self.remote:
                for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                    upload(file, self._final_path(file, folder))
        return final_paths

    def _final_path(self, path: Path, folder: Path) -> Path:
        if not self.remote:
            return path
        address: Any = self.address
        return address / path.relative_to(folder).as_posix()  # type: ignore[no-any-return]


try:
    import fcntl
except ImportError:  # Windows refuses a file that another process has open for writing anyway
    fcntl = None  # type: ignore[assignment]

_LOCKED: Final = (errno.EAGAIN, errno.EACCES)


@contextmanager
def lock_outputs(folder: Path, stem: str, *, wait: bool = False) -> Iterator[None]:
    """Holds a lock on `<folder>/<stem>.lock`, so that no other process writes the outputs of this stem.

    The lock ends with the process, however it ends. If another process holds it, this waits (`wait`) or raises
    OutputError. Where the file cannot be created or locked, as on some network drives, nothing is locked.
    """
    path = folder / f"{stem}.lock"
    file = _acquire(path, wait=wait)
    try:
        yield
    finally:
        if file is not None:
            with suppress(OSError):
                path.unlink()
            os.close(file)


def _acquire(path: Path, *, wait: bool) -> int | None:
    if fcntl is None:
        return None
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return None  # writing the tables will report the reason
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file).st_ino == path.stat().st_ino:
                return file
            os.close(file)  # the previous owner has removed this file since
        except FileNotFoundError:
            os.close(file)
        except OSError as error:
            os.close(file)
            if error.errno not in _LOCKED:
                return None
            raise OutputError(
                f"another process is writing the outputs {path.stem} in {path.parent}: wait until it is done, or "
                "choose another output folder"
            ) from None


class UniqueStems:
    """Makes unique names for outputs (clip, clip-2, clip-3) in constant memory.

    Stems that a file system may treat as the same (Clip and clip, composed and decomposed accents) count as equal;
    very long ones are truncated so that suffixes still fit.
    """

    def __init__(self) -> None:
        self._last = DiskTable()  # each returned stem, folded -> the largest number appended to it

    def __call__(self, stem: str) -> str:
        """The stem, with a number if an earlier call returned it already."""
        while len(os.fsencode(stem)) > _MAX_STEM_BYTES:
            stem = stem[:-1]
        folded = _folded(stem)
        last = self._last.get(folded)
        if last is None:
            self._last.put(folded, b"1")
            return stem
        number = int(last) + 1
        while _folded(f"{stem}-{number}") in self._last:
            number += 1
        self._last.put(folded, str(number).encode())
        self._last.put(_folded(f"{stem}-{number}"), b"1")
        return f"{stem}-{number}"


def _folded(stem: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", stem).casefold())

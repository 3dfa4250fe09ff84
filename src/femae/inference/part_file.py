"""A table file that gets its final name only when it is complete.

It is written as `<name>.part` beside the final file and renamed when closed. After an interruption the complete rows
are kept under `<stem>.partial<suffix>`; after an error nothing is kept. A failed write raises OutputError with one
sentence and removes the .part file.
"""

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import pyarrow as pa

from femae.errors import OutputError

__all__ = ["FileSink", "TableSink"]


class TableSink(ABC):
    """Writes a table batch by batch; after close, keep_partial or abort nothing more may be written.

    As a context it closes itself. After KeyboardInterrupt it keeps the complete rows and adds a sentence with their
    path to the exception's notes (`error.__notes__`); after any other exception it aborts.
    """

    @property
    @abstractmethod
    def paths(self) -> list[Path]:
        """Paths of the final files."""

    @abstractmethod
    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows. Raises OutputError, after an abort."""

    @abstractmethod
    def close(self) -> None:
        """Finish and rename to the final names. Raises OutputError, after an abort."""

    @abstractmethod
    def keep_partial(self) -> str:
        """Keep the complete rows under another name after an interruption; returns a sentence. Raises OutputError."""

    @abstractmethod
    def abort(self) -> None:
        """Delete everything that has no final name yet. May be called at any time, also twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            try:
                self.close()
            except KeyboardInterrupt as interruption:
                self._keep_and_note(interruption)
                raise
        elif isinstance(error, KeyboardInterrupt):
            self._keep_and_note(error)
        else:
            self.abort()

    def _keep_and_note(self, interruption: KeyboardInterrupt) -> None:
        try:
            interruption.add_note(self.keep_partial())
        except OutputError as problem:
            interruption.add_note(str(problem))


class FileSink(TableSink):
    """Base of single-file sinks: .part file, rename and error messages; subclasses write the rows."""

    def __init__(self, path: Path, *, schema: pa.Schema) -> None:
        """Create the folder if need be and open the .part file. Raises OutputError."""
        self.path, self.schema = path, schema
        self._part = path.with_name(f"{path.name}.part")
        self._is_open = True
        with self._output_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            self._open()

    @property
    def paths(self) -> list[Path]:
        return [self.path]

    @property
    def _partial(self) -> Path:
        return self.path.with_name(f"{self.path.stem}.partial{self.path.suffix}")

    def write(self, batch: pa.RecordBatch) -> None:
        assert self._is_open, f"{self.path} is closed"
        with self._output_errors():
            self._write(batch)

    def close(self) -> None:
        assert self._is_open, f"{self.path} is closed"
        self._finish_as(self.path)
        with suppress(OSError):
            self._partial.unlink(missing_ok=True)  # left by an earlier, interrupted run

    def keep_partial(self) -> str:
        if not self._is_open or not self._part.exists():
            return f"{self.path} is complete"
        num_rows = self._num_complete()
        if num_rows == 0:
            self.abort()
            return f"no row of {self.path.name} was complete"
        with self._output_errors():
            self._rewind()
        self._finish_as(self._partial)
        return f"{num_rows} complete row{'s' * (num_rows != 1)} kept in {self._partial}"

    def abort(self) -> None:
        if self._is_open:
            self._is_open = False
            with suppress(OSError, pa.ArrowException):
                self._finish()
            with suppress(OSError):
                self._part.unlink(missing_ok=True)

    def _finish_as(self, path: Path) -> None:
        with self._output_errors():
            self._finish()
            _sync(self._part)
            self._part.replace(path)
            self._is_open = False

    @contextmanager
    def _output_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.abort()
            raise OutputError(_message(error, path=self.path)) from error

    @abstractmethod
    def _open(self) -> None: ...
    @abstractmethod
    def _write(self, batch: pa.RecordBatch) -> None: ...
    @abstractmethod
    def _num_complete(self) -> int:
        """Number of rows written completely."""

    @abstractmethod
    def _rewind(self) -> None:
        """Remove an incomplete row that an interruption left."""

    @abstractmethod
    def _finish(self) -> None:
        """Write what is pending and close the file; may be called again, also after a failed _open."""


def _sync(path: Path) -> None:
    """Flush the file to disk before it is renamed, if the file system supports it."""
    with path.open("rb+") as file:
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
                raise


def _message(error: OSError, *, path: Path) -> str:
    """The error message: why a file cannot be written, and what to do."""
    other = "choose another output folder"
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        blocking = next((folder for folder in path.parents if folder.exists() and not folder.is_dir()), path.parent)
        reason = f"the file {blocking} is where a folder is needed; move it or {other}"
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        reason = f"the disk is full; free some space or {other}"
    elif error.errno == errno.EFBIG:
        reason = f"it grew larger than the file system or a limit of this account allows; {other}"
    elif error.errno == errno.EISDIR:
        reason = f"a folder of that name is in the way; move it or {other}"
    elif error.errno == errno.ENAMETOOLONG:
        reason = "the name is too long for the file system; rename the input"
    elif isinstance(error, PermissionError) or error.errno == errno.EROFS:
        reason = f"no permission to write there, or the file is open in another program; {other}"
    else:
        reason = f"{error.strerror or error}; {other}"
    return f"cannot write {path}: {reason}"

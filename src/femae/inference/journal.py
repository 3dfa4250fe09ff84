"""The journal of an output folder: which inputs are done, so that the same command resumes after a crash.

`<out>/run.journal` has a line of JSON for each set of settings and for each finished input, written and flushed to disk
when all of its outputs have their final names. Lines are only appended; the last one of a stem counts. A line that a
crash left incomplete is skipped.

An object store has no append: there each record is a small object of its own under `<out>/run.journal/`, named by time.
When a run begins, all of them are read into a local journal in a temporary folder; if there are many, they are merged
into one object.
"""

import errno
import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Protocol, Self

from femae.disk_table import DiskTable
from femae.errors import InputError, OutputError
from femae.inference.work_unit import UnitRecord, WorkUnit, sizes_of
from femae.video.storage import list_sizes, read_remote, remove, upload

__all__ = ["JOURNAL_NAME", "Journal", "LocalJournal", "RemoteJournal", "fingerprint"]

JOURNAL_NAME: Final = "run.journal"


def fingerprint(settings: Mapping[str, Any]) -> str:
    """A digest of the settings that decide the contents of the outputs."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]


class Journal(Protocol):
    """Records the finished inputs of one output folder, under one set of settings."""

    def why_again(self, unit: WorkUnit, *, identity: Callable[[], str]) -> str:
        """The reason to process an input; empty if files, settings, stem and all outputs are the same as before.

        `identity` is called only for an input that was done before; its exceptions pass through.
        """

    def add(self, record: UnitRecord) -> None:
        """Append the record of a finished input. Raises OutputError."""

    def record_of(self, stem: str) -> UnitRecord | None:
        """The last record of a stem, from this or an earlier run."""

    def close(self) -> None:
        """Close the files."""


class LocalJournal:
    """The journal of a local folder; several processes may append to it. Uses constant memory."""

    def __init__(self, folder: Path, *, settings: Mapping[str, Any]) -> None:
        """Read the existing journal. Raises OutputError if it cannot be read."""
        self._folder, self._path = folder, folder / JOURNAL_NAME
        self._settings = dict(settings)
        self._fingerprint = fingerprint(settings)
        self._known: dict[str, dict[str, Any]] = {}  # settings by fingerprint
        self._index = DiskTable()  # stem -> offset of its line, fingerprint
        self._file: int | None = None
        try:
            for offset, line in _lines(self._path):
                self._read_line(offset, line)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise OutputError(f"cannot read {self._path}: {error.strerror or error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def why_again(self, unit: WorkUnit, *, identity: Callable[[], str]) -> str:
        entry = self._entry_of(unit.stem)
        if entry is None:
            return "new"
        record, found = self.record_of(unit.stem), entry[1]
        if record is None or record.identity != identity():
            return "changed"
        if found != self._fingerprint:
            return "other settings: " + ", ".join(_differing(self._known.get(found, {}), self._settings))
        return "" if self._sizes(record) == record.outputs else "outputs missing or changed"

    def add(self, record: UnitRecord) -> None:
        if self._file is None:
            self._open()
        self._put_entry(record.stem, self._append(self._line(record)), self._fingerprint)

    def record_of(self, stem: str) -> UnitRecord | None:
        entry = self._entry_of(stem)
        if entry is None:
            return None
        with self._path.open("rb") as file:
            file.seek(entry[0])
            return UnitRecord.from_json(json.loads(file.readline())["done"])

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._index.close()

    def _put_entry(self, stem: str, offset: int, settings: str) -> None:
        self._index.put(stem, f"{offset} {settings}".encode())

    def _entry_of(self, stem: str) -> tuple[int, str] | None:
        """The offset of the last line of a stem, and the fingerprint of its settings."""
        found = self._index.get(stem)
        if found is None:
            return None
        offset, settings = found.decode().split(" ", 1)
        return int(offset), settings

    def _line(self, record: UnitRecord) -> dict[str, Any]:
        return {"done": record.as_json(), "settings": self._fingerprint}

    def _sizes(self, record: UnitRecord) -> dict[str, int]:
        """The existing outputs of a record -> their sizes."""
        try:
            return sizes_of([self._folder / name for name in record.outputs], folder=self._folder)
        except OSError:
            return {}

    def _read_line(self, offset: int, line: bytes) -> None:
        """Index a line of an earlier run; an incomplete one is skipped."""
        try:
            found = json.loads(line)
            if "done" in found:
                self._put_entry(UnitRecord.from_json(found["done"]).stem, offset, str(found["settings"]))
            else:
                self._known[str(found["fingerprint"])] = dict(found["settings"])
        except (ValueError, TypeError, KeyError, AttributeError):
            return

    def _open(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
            if os.fstat(self._file).st_size:
                os.lseek(self._file, -1, os.SEEK_END)
                if os.read(self._file, 1) != b"\n":
                    os.write(self._file, b"\n")  # end an incomplete line
        except OSError as error:
            raise self._cannot_write(error) from error
        self._append({"fingerprint": self._fingerprint, "settings": self._settings})

    def _append(self, values: dict[str, Any]) -> int:
        """Append a line in one write, so that lines of several processes never mix; returns its offset."""
        assert self._file is not None
        data = json.dumps(values).encode() + b"\n"
        try:
            written = os.write(self._file, data)
            end = os.lseek(self._file, 0, os.SEEK_CUR)
            if written != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file)
        except OSError as error:
            raise self._cannot_write(error) from error
        return end - written

    def _cannot_write(self, error: OSError) -> OutputError:
        return OutputError(
            f"cannot write {self._path}: {error.strerror or error}; the results so far are in {self._folder}, but a "
            f"later run would repeat them"
        )


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields (offset, line) of a file."""
    with path.open("rb") as file:
        offset = 0
        for line in file:
            yield offset, line
            offset += len(line)


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The names of settings that differ."""
    names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    return names or ["unknown"]


_MAX_OBJECTS: Final = 200  # more are merged into one
_MAX_REQUESTS: Final = 16  # concurrent requests


class RemoteJournal(LocalJournal):
    """A journal in an object store; outputs are checked against one listing of the folder."""

    def __init__(self, address: Path, *, settings: Mapping[str, Any]) -> None:
        """Read the existing journal. Raises OutputError if it cannot be read."""
        self._address: Any = address
        self._temporary = TemporaryDirectory(prefix="femae-journal-")
        folder = Path(self._temporary.name)
        try:
            self._listing = DiskTable()  # path in the folder -> bytes
            for name, size in list_sizes(address):
                self._listing.put(name, str(size).encode())
            self._download(folder / JOURNAL_NAME)
        except (InputError, FileNotFoundError) as error:
            self._temporary.cleanup()
            raise OutputError(f"cannot read the journal in {address}: {error}") from error
        super().__init__(folder, settings=settings)

    def add(self, record: UnitRecord) -> None:
        super().add(record)
        lines = ({"fingerprint": self._fingerprint, "settings": self._settings}, self._line(record))
        self._put("".join(json.dumps(line) + "\n" for line in lines).encode())
        for name, size in record.outputs.items():
            self._listing.put(name, str(size).encode())

    def close(self) -> None:
        super().close()
        self._listing.close()
        self._temporary.cleanup()

    def _download(self, journal: Path) -> None:
        """Download all records, oldest first, into one local file; if there are many, merge them in the store, too."""
        num, last = 0, ""
        with journal.open("wb") as file, ThreadPoolExecutor(_MAX_REQUESTS) as pool:
            for names in self._objects():
                for data in pool.map(self._read, names):
                    file.write(data if data.endswith(b"\n") else data + b"\n")
                num, last = num + len(names), names[-1]
        if num > _MAX_OBJECTS:
            upload(journal, self._address / JOURNAL_NAME / Path(last).name.replace(".jsonl", "-all.jsonl"))
            with ThreadPoolExecutor(_MAX_REQUESTS) as pool:
                for names in self._objects():
                    list(pool.map(lambda name: remove(self._address / name), names))

    def _objects(self) -> Iterator[list[str]]:
        """Yields the names of the objects that existed when this run began, oldest first, 1000 at a time."""
        names = self._listing.texts(f"{JOURNAL_NAME}/")
        while chunk := list(islice(names, 1000)):
            yield chunk

    def _read(self, name: str) -> bytes:
        return read_remote(self._address / name)

    def _put(self, data: bytes) -> None:
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.jsonl"
        file = self._folder / name
        file.write_bytes(data)
        try:
            upload(file, self._address / JOURNAL_NAME / name)
        finally:
            file.unlink()

    def _sizes(self, record: UnitRecord) -> dict[str, int]:
        found = ((name, self._listing.get(name)) for name in record.outputs)
        return {name: int(size) for name, size in found if size is not None}

"""The journal of an output folder: which inputs are done, so that the same command resumes after a crash.

`<out>/run.journal` has a line of JSON for each set of settings and each input that is done, written when all of its
outputs stand under their names and brought to the disk at once. Lines are only added; of one stem the last counts.
A line that a crash tore is passed over.

In an object store nothing can be added to a file: there each record is a small object of its own under
`<out>/run.journal/`, named by time. When a run begins, all of them are read into a journal of the usual kind in a
temporary folder; of many, one object is made.
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
    """A digest of all that decides what the outputs hold."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]


class Journal(Protocol):
    """Remembers what is done in one output folder, under one set of settings."""

    def why_again(self, unit: WorkUnit, *, identity: Callable[[], str]) -> str:
        """In a few words why an input must be done; empty: same files, settings, stem, and its outputs are all there.

        `identity` is asked only of an input that was done before. Raises what it raises.
        """

    def add(self, record: UnitRecord) -> None:
        """One input is done. Raises OutputError."""

    def record_of(self, stem: str) -> UnitRecord | None:
        """The last record of a stem, whichever run it comes from."""

    def close(self) -> None:
        """Let go of the files."""


class LocalJournal:
    """The journal of a folder on a disk; several processes may add to one. Memory does not grow with it."""

    def __init__(self, folder: Path, *, settings: Mapping[str, Any]) -> None:
        """Read what is there. Raises OutputError when it cannot be read."""
        self._folder, self._path = folder, folder / JOURNAL_NAME
        self._settings = dict(settings)
        self._print = fingerprint(settings)
        self._known: dict[str, dict[str, Any]] = {}  # settings by fingerprint
        self._places = DiskTable()  # stem -> where its line begins, fingerprint
        self._file: int | None = None
        try:
            for place, line in _lines(self._path):
                self._take(place, line)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise OutputError(f"cannot read {self._path}: {error.strerror or error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def why_again(self, unit: WorkUnit, *, identity: Callable[[], str]) -> str:
        place = self._place_of(unit.stem)
        if place is None:
            return "new"
        record, found = self.record_of(unit.stem), place[1]
        if record is None or record.identity != identity():
            return "changed"
        if found != self._print:
            return "other settings: " + ", ".join(_differing(self._known.get(found, {}), self._settings))
        return "" if self._sizes(record) == record.outputs else "outputs missing or changed"

    def add(self, record: UnitRecord) -> None:
        if self._file is None:
            self._open()
        self._keep(record.stem, self._append(self._line(record)), self._print)

    def record_of(self, stem: str) -> UnitRecord | None:
        place = self._place_of(stem)
        if place is None:
            return None
        with self._path.open("rb") as file:
            file.seek(place[0])
            return UnitRecord.from_json(json.loads(file.readline())["done"])

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._places.close()

    def _keep(self, stem: str, begin: int, settings: str) -> None:
        self._places.put(stem, f"{begin} {settings}".encode())

    def _place_of(self, stem: str) -> tuple[int, str] | None:
        """Where the last line of a stem begins, and the fingerprint of its settings."""
        found = self._places.get(stem)
        if found is None:
            return None
        begin, settings = found.decode().split(" ", 1)
        return int(begin), settings

    def _line(self, record: UnitRecord) -> dict[str, Any]:
        return {"done": record.as_json(), "settings": self._print}

    def _sizes(self, record: UnitRecord) -> dict[str, int]:
        """The outputs of a record that are there, with their sizes."""
        try:
            return sizes_of([self._folder / name for name in record.outputs], folder=self._folder)
        except OSError:
            return {}

    def _take(self, place: int, line: bytes) -> None:
        """One line of an earlier run, if it is whole."""
        try:
            found = json.loads(line)
            if "done" in found:
                self._keep(UnitRecord.from_json(found["done"]).stem, place, str(found["settings"]))
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
                    os.write(self._file, b"\n")  # a torn line ends here
        except OSError as error:
            raise self._cannot_write(error) from error
        self._append({"fingerprint": self._print, "settings": self._settings})

    def _append(self, values: dict[str, Any]) -> int:
        """Add a line in one write, so that lines of several processes never mix; returns where it begins."""
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
    """(where it begins, line) of a file."""
    with path.open("rb") as file:
        place = 0
        for line in file:
            yield place, line
            place += len(line)


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The names of settings that differ."""
    names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    return names or ["unknown"]


_MANY: Final = 200  # objects; more are made one
_AT_ONCE: Final = 16  # requests


class RemoteJournal(LocalJournal):
    """As LocalJournal, for a folder by address; outputs are checked against one listing of it."""

    def __init__(self, place: Path, *, settings: Mapping[str, Any]) -> None:
        """Read what is there. Raises OutputError when it cannot be read."""
        self._place: Any = place
        self._temporary = TemporaryDirectory(prefix="femae-journal-")
        folder = Path(self._temporary.name)
        try:
            self._there = DiskTable()  # path in the folder -> bytes
            for name, size in list_sizes(place):
                self._there.put(name, str(size).encode())
            self._gather(folder / JOURNAL_NAME)
        except (InputError, FileNotFoundError) as error:
            self._temporary.cleanup()
            raise OutputError(f"cannot read the journal in {place}: {error}") from error
        super().__init__(folder, settings=settings)

    def add(self, record: UnitRecord) -> None:
        super().add(record)
        lines = ({"fingerprint": self._print, "settings": self._settings}, self._line(record))
        self._put("".join(json.dumps(line) + "\n" for line in lines).encode())
        for name, size in record.outputs.items():
            self._there.put(name, str(size).encode())

    def close(self) -> None:
        super().close()
        self._there.close()
        self._temporary.cleanup()

    def _gather(self, journal: Path) -> None:
        """All records, oldest first, in one file here; and in the store too, where there are many."""
        num, last = 0, ""
        with journal.open("wb") as file, ThreadPoolExecutor(_AT_ONCE) as pool:
            for names in self._objects():
                for data in pool.map(self._read, names):
                    file.write(data if data.endswith(b"\n") else data + b"\n")
                num, last = num + len(names), names[-1]
        if num > _MANY:
            upload(journal, self._place / JOURNAL_NAME / Path(last).name.replace(".jsonl", "-all.jsonl"))
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                for names in self._objects():
                    list(pool.map(lambda name: remove(self._place / name), names))

    def _objects(self) -> Iterator[list[str]]:
        """The objects of the journal that were there when this run began, oldest first, some at a time."""
        names = self._there.texts(f"{JOURNAL_NAME}/")
        while some := list(islice(names, 1000)):
            yield some

    def _read(self, name: str) -> bytes:
        return read_remote(self._place / name)

    def _put(self, data: bytes) -> None:
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.jsonl"
        file = self._folder / name
        file.write_bytes(data)
        try:
            upload(file, self._place / JOURNAL_NAME / name)
        finally:
            file.unlink()

    def _sizes(self, record: UnitRecord) -> dict[str, int]:
        found = ((name, self._there.get(name)) for name in record.outputs)
        return {name: int(size) for name, size in found if size is not None}

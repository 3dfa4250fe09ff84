"""The journal of an output folder in an object store, where nothing can be added to a file.

Each record is a small object of its own under `<out>/run.journal/`, named by time. When a run begins, all of them are
read into a journal of the usual kind in a temporary folder; of many, one object is made.
"""

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from femae.disk_table import DiskTable
from femae.errors import InputError, OutputError
from femae.inference.journal import JOURNAL_NAME, LocalJournal
from femae.inference.work_unit import UnitRecord
from femae.video.storage import list_sizes, read_remote, remove, upload

__all__ = ["RemoteJournal"]

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

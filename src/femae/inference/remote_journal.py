"""The journal of an output folder in an object store, where nothing can be added to a file.

Each record is a small object of its own under `<out>/run.journal/`, named by time. When a run begins, all of them are
read into a journal of the usual kind in a temporary folder; of many, one object is made.
"""

import json
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

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
            self._there = list_sizes(place)
            self._gather(folder / JOURNAL_NAME)
        except (InputError, FileNotFoundError) as error:
            self._temporary.cleanup()
            raise OutputError(f"cannot read the journal in {place}: {error}") from error
        super().__init__(folder, settings=settings)

    def add(self, record: UnitRecord) -> None:
        super().add(record)
        lines = ({"fingerprint": self._print, "settings": self._settings}, self._line(record))
        self._put("".join(json.dumps(line) + "\n" for line in lines).encode())
        self._there |= record.outputs

    def close(self) -> None:
        super().close()
        self._temporary.cleanup()

    def _gather(self, journal: Path) -> None:
        """All records, oldest first, in one file here; and in the store too, where there are many."""
        names = sorted(name for name in self._there if name.startswith(f"{JOURNAL_NAME}/"))
        with journal.open("wb") as file, ThreadPoolExecutor(_AT_ONCE) as pool:
            for start in range(0, len(names), 1000):  # the answers of so many are held at a time
                for data in pool.map(self._read, names[start : start + 1000]):
                    file.write(data if data.endswith(b"\n") else data + b"\n")
        if len(names) > _MANY:
            upload(journal, self._place / JOURNAL_NAME / Path(names[-1]).name.replace(".jsonl", "-all.jsonl"))
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(lambda name: remove(self._place / name), names))

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
        return {name: self._there[name] for name in record.outputs if name in self._there}

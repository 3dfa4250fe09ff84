"""A key-value table on disk, in a temporary SQLite database that is deleted when it is closed."""

import sqlite3
from collections.abc import Iterator
from threading import Lock
from typing import Final, Self

from femae.errors import OutputError

__all__ = ["DiskTable"]

_PAGE: Final = 1000  # keys of one query


class DiskTable:
    """Maps strings or integers to bytes; SQLite caches some megabytes in memory and keeps the rest in a temporary file.

    Thread-safe. Methods that write raise OutputError where the temporary folder is full.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._db = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("CREATE TABLE entries (key PRIMARY KEY, value BLOB) WITHOUT ROWID")
        self._num = 0

    def __len__(self) -> int:
        return self._num

    def __contains__(self, key: str | int) -> bool:
        return self.get(key) is not None

    def get(self, key: str | int) -> bytes | None:
        """The value of a key; None if there is none."""
        with self._lock:
            found = self._db.execute("SELECT value FROM entries WHERE key = ?", (_stored(key),)).fetchone()
        return None if found is None else bytes(found[0])

    def put(self, key: str | int, value: bytes) -> None:
        """Set the value of a key."""
        try:
            with self._lock:
                stored = _stored(key)
                if self._db.execute("INSERT OR IGNORE INTO entries VALUES (?, ?)", (stored, value)).rowcount:
                    self._num += 1
                else:
                    self._db.execute("UPDATE entries SET value = ? WHERE key = ?", (value, stored))
        except sqlite3.Error as error:
            raise OutputError(
                f"the temporary folder is full, or cannot be written ({error}): free some space, or set TMPDIR to a "
                "larger disk"
            ) from error

    def add(self, key: str) -> None:
        """Add a key with an empty value, as to a set."""
        self.put(key, b"")

    def texts(self, prefix: str = "") -> Iterator[str]:
        """The string keys with this prefix, sorted by code points; may include keys added during the iteration."""
        start = first = prefix.encode("utf-8", "surrogatepass")
        sql = "SELECT key FROM entries WHERE key >= ? ORDER BY key LIMIT ?"  # in SQLite, integers sort before blobs
        while True:
            with self._lock:
                keys = [bytes(row[0]) for row in self._db.execute(sql, (first, _PAGE))]
            for key in keys:
                if not key.startswith(start):
                    return
                yield key.decode("utf-8", "surrogatepass")
            if len(keys) < _PAGE:
                return
            first = keys[-1] + b"\0"  # the smallest key greater than the last

    def close(self) -> None:
        """Close the database, which deletes its file."""
        self._db.close()

    def __del__(self) -> None:
        if hasattr(self, "_db"):
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _stored(key: str | int) -> bytes | int:
    """A key as it is stored; file names may contain surrogates for bytes that are not UTF-8."""
    return key if isinstance(key, int) else key.encode("utf-8", "surrogatepass")

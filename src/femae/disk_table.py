"""A table of keys and values outside this process's memory: in temporary files of SQLite, deleted when it is closed."""

import sqlite3
from collections.abc import Iterator
from threading import Lock
from typing import Final, Self

from femae.errors import OutputError

__all__ = ["DiskTable"]

_PAGE: Final = 1000  # keys asked for at once


class DiskTable:
    """Texts or whole numbers -> bytes; some megabytes of it in memory, the rest in a temporary file without a name.

    Safe for several threads. All that write raise OutputError where the temporary folder is full.
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
        """The value of a key, None without one."""
        with self._lock:
            found = self._db.execute("SELECT value FROM entries WHERE key = ?", (_stored(key),)).fetchone()
        return None if found is None else bytes(found[0])

    def put(self, key: str | int, value: bytes) -> None:
        """Set the value of a key."""
        try:
            with self._lock:
                place = _stored(key)
                if self._db.execute("INSERT OR IGNORE INTO entries VALUES (?, ?)", (place, value)).rowcount:
                    self._num += 1
                else:
                    self._db.execute("UPDATE entries SET value = ? WHERE key = ?", (value, place))
        except sqlite3.Error as error:
            raise OutputError(
                f"the temporary folder is full, or cannot be written ({error}): free some space, or set TMPDIR to a "
                "larger disk"
            ) from error

    def add(self, key: str) -> None:
        """As of a set."""
        self.put(key, b"")

    def texts(self, prefix: str = "") -> Iterator[str]:
        """The keys that begin so, by code points; those that are added meanwhile may be among them."""
        begin = first = prefix.encode("utf-8", "surrogatepass")
        sql = "SELECT key FROM entries WHERE key >= ? ORDER BY key LIMIT ?"  # to SQLite all numbers are less than texts
        while True:
            with self._lock:
                keys = [bytes(row[0]) for row in self._db.execute(sql, (first, _PAGE))]
            for key in keys:
                if not key.startswith(begin):
                    return
                yield key.decode("utf-8", "surrogatepass")
            if len(keys) < _PAGE:
                return
            first = keys[-1] + b"\0"  # no text is between the two

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def __del__(self) -> None:
        if hasattr(self, "_db"):
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _stored(key: str | int) -> bytes | int:
    """Names of files may hold what is no UTF-8."""
    return key if isinstance(key, int) else key.encode("utf-8", "surrogatepass")

"""Reads files of a folder of shards on disk or in an object store, there only the byte ranges that are needed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from femae.config.storage import is_remote

__all__ = ["is_file", "open_parquet", "read_text"]

_MAX_CACHED_FOOTERS: Final = 4096  # of shards, reused for the next row group


@contextmanager
def open_parquet(path: Path, *, read_dictionary: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file by path or address. Raises OSError or ValueError when it cannot be read, for any store.

    In an object store a row group takes two requests: the file's details, to see whether it has changed, and its
    bytes. The footer is cached, and nothing is read ahead.
    """
    dictionary_columns = list(read_dictionary)
    if not is_remote(path):
        with pq.ParquetFile(path, read_dictionary=dictionary_columns) as file:
            yield file
        return
    with _store_errors(path), path.open("rb", cache_type="none") as raw:  # type: ignore[call-overload]
        footer = _footer(path, str(getattr(raw, "details", "")))
        with pq.ParquetFile(raw, metadata=footer, read_dictionary=dictionary_columns, pre_buffer=True) as file:
            yield file


def read_text(path: Path) -> str:
    """Read a small UTF-8 text file. Raises OSError or ValueError."""
    with _store_errors(path):
        return path.read_text(encoding="utf-8")


def is_file(path: Path) -> bool:
    """Whether the file exists. Raises OSError when a store does not answer (no connection, no permission)."""
    if not is_remote(path):
        return path.is_file()
    try:
        with _store_errors(path):
            return bool(path.fs.info(str(path))["type"] == "file")  # type: ignore[attr-defined]
    except FileNotFoundError:
        return False


@lru_cache(_MAX_CACHED_FOOTERS)
def _footer(path: Path, _details: str) -> Any:
    """A file's Parquet metadata; `_details` from the store change with the file, and with them the cache key."""
    with path.open("rb", cache_type="readahead", block_size=1 << 16) as raw:  # type: ignore[call-overload]
        return pq.read_metadata(raw)


@contextmanager
def _store_errors(path: Path) -> Iterator[None]:
    """Convert the error types of object-store clients into OSError with the address."""
    try:
        yield
    except (OSError, ValueError):
        raise
    except Exception as error:
        if not is_remote(path):
            raise
        raise OSError(f"{path}: {type(error).__name__}: {error}") from error

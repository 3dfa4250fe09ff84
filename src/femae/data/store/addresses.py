"""Files of a folder of shards, on a disk or in an object store: read only in the ranges that are needed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from femae.config.storage import is_remote

__all__ = ["is_file", "open_parquet", "read_text"]

_FOOTERS: Final = 4096  # of shards, kept for the next row group


@contextmanager
def open_parquet(path: Path, *, read_dictionary: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
    """A Parquet file by path or address. Raises OSError or ValueError when it cannot be read, whatever the store says.

    In a store a row group takes two requests: is the file what it was, and its bytes. The footer is kept from the first
    time on, and nothing is read ahead.
    """
    words = list(read_dictionary)
    if not is_remote(path):
        with pq.ParquetFile(path, read_dictionary=words) as file:
            yield file
        return
    with _errors_of_stores(path), path.open("rb", cache_type="none") as raw:  # type: ignore[call-overload]
        footer = _footer(path, str(getattr(raw, "details", "")))
        with pq.ParquetFile(raw, metadata=footer, read_dictionary=words, pre_buffer=True) as file:
            yield file


def read_text(path: Path) -> str:
    """A small text file, UTF-8. Raises OSError or ValueError."""
    with _errors_of_stores(path):
        return path.read_text(encoding="utf-8")


def is_file(path: Path) -> bool:
    """Whether it is there. Raises OSError where a store does not say (no connection, no permission)."""
    if not is_remote(path):
        return path.is_file()
    try:
        with _errors_of_stores(path):
            return bool(path.fs.info(str(path))["type"] == "file")  # type: ignore[attr-defined]
    except FileNotFoundError:
        return False


@lru_cache(_FOOTERS)
def _footer(path: Path, _state: str) -> Any:
    """Its metadata; `_state` is what the store says of the file, which changes with it."""
    with path.open("rb", cache_type="readahead", block_size=1 << 16) as raw:  # type: ignore[call-overload]
        return pq.read_metadata(raw)


@contextmanager
def _errors_of_stores(path: Path) -> Iterator[None]:
    """Clients of stores have errors of their own: as OSError, which names the address."""
    try:
        yield
    except (OSError, ValueError):
        raise
    except Exception as error:
        if not is_remote(path):
            raise
        raise OSError(f"{path}: {type(error).__name__}: {error}") from error

"""Reads tables of inputs: CSV or Parquet with a column `path`; further columns are copied into the summary."""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from femae.errors import InputError
from femae.video.storage import address, is_address, local_copy

__all__ = ["Columns", "PathEntry", "is_path_table", "read_path_table"]

Columns = tuple[tuple[str, str | None], ...]  # name and value, in the table's order
_SUFFIXES: Final = (".csv", ".parquet")
_PATH: Final = "path"
_BATCH: Final = 4096  # rows


@dataclass(frozen=True, kw_only=True, slots=True)
class PathEntry:
    """One row of a table of inputs."""

    path: str  # path or address; relative ones in the table are resolved against its folder
    columns: Columns
    place: str  # prefix for messages: "row 3 of films.csv: "


def is_path_table(text: str) -> bool:
    """Whether an input is a table: by its suffix, and not a glob pattern."""
    return Path(text).suffix.lower() in _SUFFIXES and re.search(r"[*?\[]", text) is None


def read_path_table(text: str) -> Iterator[PathEntry]:
    """Yield the rows of a table (path or address) in order, in constant memory.

    Raises InputError when it is missing, no table, or has no column `path`, and at the first row that cannot be read.
    """
    folder = text.rpartition("/")[0] if is_address(text) else str(Path(text).parent)
    number = 0
    with _local(text) as file, _batches(text, file) as batches:
        for batch in batches:
            others = [name for name in batch.schema.names if name != _PATH]
            for row in batch.to_pylist():
                number += 1
                named = "" if row[_PATH] is None else str(row[_PATH]).strip()
                place = f"row {number} of {text}: "
                if not named:
                    raise InputError(f"{place}the path is empty")
                columns = tuple((name, None if row[name] is None else str(row[name])) for name in others)
                yield PathEntry(path=_resolve(named, folder), columns=columns, place=place)


def _resolve(named: str, folder: str) -> str:
    if is_address(named) or Path(named).is_absolute() or named.startswith("~"):
        return named
    return f"{folder}/{named}" if folder != "." else named


def _local(text: str) -> AbstractContextManager[Path]:
    """The table's file, or a temporary copy of a remote one. Raises InputError."""
    return local_copy(address(text)) if is_address(text) else nullcontext(Path(text).expanduser())


@contextmanager
def _batches(text: str, file: Path) -> Iterator[Iterator[Any]]:
    """The table's record batches, read lazily. Raises InputError, also from within the `with` block."""
    import pyarrow as pa

    try:
        with _parquet(file) if text.lower().endswith(".parquet") else _csv(file) as (names, batches):
            if _PATH not in names:
                raise InputError(
                    f"the table '{text}' has no column '{_PATH}' that names films and pictures; it has "
                    f"{', '.join(names) or 'none'}"
                )
            yield batches
    except FileNotFoundError:
        raise InputError(f"'{text}' does not exist: check the name and the folder you are in") from None
    except OSError as error:
        raise InputError(f"the table '{text}' cannot be read: {error.strerror or error}") from error
    except (pa.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the table '{text}' cannot be read as {Path(text).suffix.upper()[1:]}: {reason}") from error


@contextmanager
def _parquet(file: Path) -> Iterator[tuple[list[str], Iterator[Any]]]:
    import pyarrow.parquet as pq

    with file.open("rb") as opened, pq.ParquetFile(opened) as table:
        yield table.schema_arrow.names, table.iter_batches(_BATCH)


@contextmanager
def _csv(file: Path) -> Iterator[tuple[list[str], Iterator[Any]]]:
    """Column names and batches of a CSV file, all columns as strings."""
    import pyarrow as pa
    from pyarrow import csv

    with file.open("rb") as opened:
        names = csv.open_csv(opened).schema.names
        opened.seek(0)
        as_text = csv.ConvertOptions(
            column_types={name: pa.string() for name in names}, strings_can_be_null=True, null_values=[""]
        )
        with csv.open_csv(opened, convert_options=as_text) as reader:
            yield names, (part for batch in reader for part in _split(batch))


def _split(batch: Any) -> Iterator[Any]:
    """Slices small enough to convert to Python objects."""
    for start in range(0, batch.num_rows, _BATCH):
        yield batch.slice(start, _BATCH)

"""Tables that name inputs: CSV or Parquet with a column `path`; further columns go with each input into the summary."""

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
    """One row of such a table."""

    path: str  # a relative one is completed by the table's folder
    columns: Columns
    place: str  # "row 3 of films.csv: "


def is_path_table(text: str) -> bool:
    """By the suffix; a pattern is none."""
    return Path(text).suffix.lower() in _SUFFIXES and re.search(r"[*?\[]", text) is None


def read_path_table(text: str) -> Iterator[PathEntry]:
    """The rows of a table by path or address, in order, in memory flat in their number.

    Raises InputError: not there, no such table, no column path; and for the first row that cannot be read, after those
    before it.
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
                yield PathEntry(path=_complete(named, folder), columns=columns, place=place)


def _complete(named: str, folder: str) -> str:
    if is_address(named) or Path(named).is_absolute() or named.startswith("~"):
        return named
    return f"{folder}/{named}" if folder != "." else named


def _local(text: str) -> AbstractContextManager[Path]:
    """The file of a table; of one in a store a copy. Raises InputError."""
    return local_copy(address(text)) if is_address(text) else nullcontext(Path(text).expanduser())


@contextmanager
def _batches(text: str, file: Path) -> Iterator[Iterator[Any]]:
    """The table's record batches, read as they are asked for. Raises InputError, also while they are."""
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
    """All columns are texts, whatever stands in them."""
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
    """Parts of which the Python objects are few."""
    for start in range(0, batch.num_rows, _BATCH):
        yield batch.slice(start, _BATCH)

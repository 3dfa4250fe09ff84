"""Tables that name inputs: CSV or Parquet with a column `path`; further columns go with each input into the summary."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from femae.errors import InputError
from femae.video.storage import address, is_address, read_remote

__all__ = ["Columns", "PathEntry", "is_path_table", "read_path_table"]

Columns = tuple[tuple[str, str | None], ...]  # name and value, in the table's order
_SUFFIXES: Final = (".csv", ".parquet")
_PATH: Final = "path"


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
    """The rows of a table by path or address, in order. Raises InputError: not there, no such table, no column path."""
    table = _read(text)
    if _PATH not in table.column_names:
        raise InputError(
            f"the table '{text}' has no column '{_PATH}' that names films and pictures; it has "
            f"{', '.join(table.column_names) or 'none'}"
        )
    folder = text.rpartition("/")[0] if is_address(text) else str(Path(text).parent)
    others = [name for name in table.column_names if name != _PATH]
    number = 0
    for batch in table.to_batches(max_chunksize=4096):
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


def _read(text: str) -> Any:
    import pyarrow as pa

    try:
        data = read_remote(address(text)) if is_address(text) else Path(text).expanduser().read_bytes()
        if text.lower().endswith(".parquet"):
            import pyarrow.parquet as pq

            return pq.read_table(BytesIO(data))
        from pyarrow import csv

        names = csv.open_csv(BytesIO(data)).schema.names
        as_text = csv.ConvertOptions(
            column_types={name: pa.string() for name in names}, strings_can_be_null=True, null_values=[""]
        )
        return csv.read_csv(BytesIO(data), convert_options=as_text)
    except FileNotFoundError:
        raise InputError(f"'{text}' does not exist: check the name and the folder you are in") from None
    except OSError as error:
        raise InputError(f"the table '{text}' cannot be read: {error.strerror or error}") from error
    except (pa.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the table '{text}' cannot be read as {Path(text).suffix.upper()[1:]}: {reason}") from error

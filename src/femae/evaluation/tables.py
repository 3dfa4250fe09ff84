"""Reads tables from files, and converts their columns to checked numpy arrays."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq

from femae.errors import DataError

__all__ = ["float_column", "float_columns", "integer_column", "read_table", "text_column"]

# Read as text even if every value looks like a number: 001 and 1 are different names.
_TEXTS: Final = tuple(
    "source name key path index group person subject video split class_name emotion label expression "
    "compound target_compound status".split()
)


def read_table(path: Path) -> pa.Table:
    """Read a .csv, .parquet or .jsonl file. Raises DataError for another one, a damaged one, or one without rows."""
    kind = path.suffix.lower()
    if not path.is_file():
        raise DataError(f"there is no table {path}; give a .csv, .parquet or .jsonl file")
    try:
        if kind == ".csv":
            options = pacsv.ConvertOptions(column_types=dict.fromkeys(_TEXTS, pa.string()))
            table = pacsv.read_csv(path, convert_options=options)
        elif kind == ".parquet":
            table = pq.read_table(path, partitioning=None)
        elif kind in (".jsonl", ".ndjson"):
            table = pajson.read_json(path)
        else:
            raise DataError(f"{path} is not a table by its name: expected .csv, .parquet or .jsonl")
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as a table ({str(error).splitlines()[0]})") from error
    if len(set(table.column_names)) < table.num_columns:
        raise DataError(f"{path} has two columns of the same name; give each a name of its own")
    if table.num_rows == 0:
        raise DataError(f"{path} has no rows: there is nothing to evaluate")
    return table


def text_column(table: pa.Table, name: str) -> list[str]:
    """A column as strings; null and a missing column give empty strings."""
    if name not in table.column_names:
        return [""] * table.num_rows
    values: Any = table.column(name).to_pylist()
    return ["" if value is None else str(value) for value in values]


def integer_column(table: pa.Table, name: str, *, missing: int, path: Path) -> npt.NDArray[np.int64]:
    """A column of whole numbers i64[N]; null and a missing column give `missing`. Raises DataError."""
    values = float_column(table, name, path=path)
    out = np.where(np.isnan(values), missing, values)
    if (out != np.round(out)).any():
        raise DataError(f"{path}, column {name}: {out[out != np.round(out)][0]} is not a whole number")
    return np.asarray(out, np.int64)


def float_column(table: pa.Table, name: str, *, path: Path) -> npt.NDArray[np.float64]:
    """A column of numbers f64[N]; null and a missing column give NaN. Raises DataError for other values."""
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    column: Any = table.column(name)
    try:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            column = pa.chunked_array([[text or None for text in column.to_pylist()]], pa.string())
        values = column.cast(pa.float64()).to_numpy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{path}, column {name}: expected numbers ({str(error).splitlines()[0]})") from error
    return np.asarray(values, np.float64)


def float_columns(
    table: pa.Table, names: Sequence[str], *, path: Path, what: str, minus_one_is_null: bool = False
) -> npt.NDArray[np.float32]:
    """Columns of values 0..1 as f32[N, K]; null gives NaN. Raises DataError for one out of range, with its row."""
    out = np.empty((table.num_rows, len(names)), np.float64)
    for index, name in enumerate(names):
        values = float_column(table, name, path=path)
        if minus_one_is_null:
            values = np.where(values == -1, np.nan, values)
        wrong = np.flatnonzero((values < 0) | (values > 1))
        if wrong.size:
            raise DataError(
                f"{path}, column {name}, row {wrong[0] + 1}: {values[wrong[0]]:g} is out of range; {what} are 0 to 1"
                + (f" ({wrong.size} rows)" if wrong.size > 1 else "")
            )
        out[:, index] = values
    return out.astype(np.float32)

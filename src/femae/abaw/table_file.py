"""Tables of `femae predict` from disk: CSV, Parquet, JSON lines."""

from io import BytesIO
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from femae.errors import DataError, InputError

__all__ = ["TABLE_SUFFIXES", "read_table"]

TABLE_SUFFIXES: Final = (".parquet", ".jsonl", ".csv")  # in order of precision: csv and jsonl keep six decimals

_TEXTS: Final = ("source", "status", "compound", "expression")
_INTEGERS: Final = ("frame", "face_id")


def read_table(path: Path) -> pa.Table:
    """The rows of one table, texts as string, frame and face_id as int64, everything else as float64.

    Raises InputError when the file cannot be read, DataError when it is no table of that form.
    """
    try:
        names = _column_names(path)
        types = {name: _type_of(name) for name in names}
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            return table.cast(pa.schema([(name, types[name]) for name in table.column_names]))
        if path.suffix == ".jsonl":
            schema = pa.schema(list(types.items()))
            parse = pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
            return pa.json.read_json(path, parse_options=parse)
        convert = pa.csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=False)
        return pa.csv.read_csv(path, convert_options=convert)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}; check the name") from error
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is not a table of `femae predict`: {reason}") from error


def _column_names(path: Path) -> list[str]:
    if path.suffix == ".parquet":
        return pq.read_schema(path).names
    with path.open("rb") as file:
        line = file.readline()
    if path.suffix == ".jsonl":
        return list(pa.json.read_json(BytesIO(line)).column_names)
    return list(pa.csv.read_csv(BytesIO(line)).column_names)


def _type_of(name: str) -> pa.DataType:
    if name in _TEXTS:
        return pa.string()
    return pa.int64() if name in _INTEGERS else pa.float64()

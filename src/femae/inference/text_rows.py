"""Rows of a table as text: CSV and JSON lines.

Both: UTF-8, lines end in a line feed, box coordinates with two decimals, times and scores with six, never an exponent.
CSV: no byte-order mark, quotes where a text needs them, null and the empty string both empty. File names stand as they
are: one that begins with =, +, - or @ is run as a formula by a spreadsheet that opens the CSV by double click, but a
changed name would no longer lead back to its file. With file names from strangers, import the column as text or take
Parquet. JSON lines: one flat object a row, every column in each, missing values null.
"""

import json
from collections.abc import Callable

import pyarrow as pa

__all__ = ["csv_header", "csv_lines", "jsonl_lines"]

_TWO_DECIMALS = frozenset({"x1", "y1", "x2", "y2"})


def csv_header(schema: pa.Schema) -> str:
    """The first line: the names of the columns."""
    return ",".join(_quoted(name) for name in schema.names) + "\n"


def csv_lines(batch: pa.RecordBatch) -> str:
    """One line a row, each with its end."""
    rows = zip(*_cells(batch, text=_quoted, null=""), strict=True)
    return "".join(",".join(row) + "\n" for row in rows)


def jsonl_lines(batch: pa.RecordBatch) -> str:
    """One JSON object a row, each with its end."""
    keys = [json.dumps(name) for name in batch.schema.names]
    rows = zip(*_cells(batch, text=_json_text, null="null"), strict=True)
    return "".join(
        "{" + ", ".join(f"{key}: {cell}" for key, cell in zip(keys, row, strict=True)) + "}\n" for row in rows
    )


def _cells(batch: pa.RecordBatch, *, text: Callable[[str], str], null: str) -> list[list[str]]:
    """Every column as written values."""
    columns = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        values = column.to_pylist()
        if pa.types.is_floating(column.type):
            spec = "z.2f" if name in _TWO_DECIMALS else "z.6f"  # z: no minus before a zero
            columns.append([null if value is None or value != value else format(value, spec) for value in values])
        else:
            show = text if pa.types.is_string(column.type) else str
            columns.append([null if value is None else show(value) for value in values])
    return columns


def _quoted(text: str) -> str:
    if text != text.strip() or any(mark in text for mark in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


def _json_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)

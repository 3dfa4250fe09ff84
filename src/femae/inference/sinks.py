"""Streaming table writers in constant memory: CSV, Parquet, JSON lines, or several of them at once.

A file gets its final name only when complete: see femae.inference.part_file.

CSV and JSON lines: UTF-8, lines end in a line feed, box coordinates with two decimals, times and scores with six, never
an exponent. CSV: no byte-order mark, quotes where a text needs them, null and the empty string both empty. File names
are not escaped: a spreadsheet that opens the CSV by double click runs a name that begins with =, +, - or @ as a
formula, but a changed name would no longer lead back to its file. With untrusted file names import the column as text
or use Parquet. JSON lines: one flat object per row with every column, missing values null.
"""

import json
import os
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pyarrow as pa

from femae.errors import ConfigError, OutputError
from femae.inference.part_file import FileSink, TableSink

__all__ = [
    "SINKS",
    "CsvSink",
    "JsonlSink",
    "ParquetSink",
    "TableSink",
    "csv_header",
    "csv_lines",
    "jsonl_lines",
    "open_sinks",
]

_ROW_GROUP = 4096  # rows per Parquet row group


class _TextSink(FileSink):
    """Writes lines of UTF-8; remembers where the last complete batch ended."""

    header = ""

    def _open(self) -> None:
        self._complete = (0, 0)  # rows, bytes; one value, so that an interruption finds them consistent
        self._file = self._part.open("wb")
        self._file.write(self.header.encode())
        self._complete = (0, self._file.tell())

    def _write(self, batch: pa.RecordBatch) -> None:
        self._file.write(self._lines(batch).encode())
        self._complete = (self._complete[0] + batch.num_rows, self._file.tell())

    def _num_complete(self) -> int:
        return self._complete[0]

    def _rewind(self) -> None:
        if not self._file.closed:
            self._file.truncate(self._complete[1])

    def _finish(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()

    @abstractmethod
    def _lines(self, batch: pa.RecordBatch) -> str: ...


class CsvSink(_TextSink):
    """Comma-separated values with a header; null and the empty string are both empty."""

    def _open(self) -> None:
        self.header = csv_header(self.schema)
        super()._open()

    def _lines(self, batch: pa.RecordBatch) -> str:
        return csv_lines(batch)


class JsonlSink(_TextSink):
    """One flat JSON object per line, with every column."""

    def _lines(self, batch: pa.RecordBatch) -> str:
        return jsonl_lines(batch)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rows:
    """Where the rows of a Parquet file are; one immutable value, so that an interruption finds it consistent."""

    num_written: int = 0
    pending: tuple[pa.RecordBatch, ...] = ()
    in_progress: pa.Table | None = None  # being written
    offset_before: int = 0  # of the file, in bytes, when that began

    @property
    def num_pending(self) -> int:
        return sum(batch.num_rows for batch in self.pending)


class ParquetSink(FileSink):
    """Parquet with the declared schema and its metadata, in row groups of 4096 rows."""

    def _open(self) -> None:
        import pyarrow.parquet as pq

        self._rows = _Rows()
        # Arrow's own file, not Python's: KeyboardInterrupt cannot be raised in the middle of a row group.
        self._file = pa.OSFile(os.fspath(self._part), "wb")
        self._writer = pq.ParquetWriter(self._file, self.schema, compression="zstd")

    def _write(self, batch: pa.RecordBatch) -> None:
        rows = self._rows
        rows = self._rows = replace(rows, pending=(*rows.pending, batch))
        if rows.num_pending >= _ROW_GROUP:
            self._write_groups(rows.num_pending - rows.num_pending % _ROW_GROUP)

    def _write_groups(self, num_rows: int) -> None:
        """Write the first pending rows. An interruption finds them pending, in progress, or written."""
        rows = self._rows
        table = pa.Table.from_batches(list(rows.pending), schema=self.schema)
        group, rest = table.slice(0, num_rows), tuple(table.slice(num_rows).to_batches())
        self._rows = replace(rows, pending=rest, in_progress=group, offset_before=self._file.tell())
        self._writer.write_table(group, row_group_size=_ROW_GROUP)
        self._rows = _Rows(num_written=rows.num_written + num_rows, pending=rest)

    def _num_complete(self) -> int:
        rows = self._rows
        return rows.num_written + (rows.in_progress.num_rows if rows.in_progress is not None else 0) + rows.num_pending

    def _settle(self) -> None:
        """After an interruption, count the rows in progress as written or as pending."""
        rows = self._rows
        if rows.in_progress is not None and self._file.tell() > rows.offset_before:
            self._rows = _Rows(num_written=rows.num_written + rows.in_progress.num_rows, pending=rows.pending)
        elif rows.in_progress is not None:
            pending = (*rows.in_progress.to_batches(), *rows.pending)
            self._rows = _Rows(num_written=rows.num_written, pending=pending)

    def _rewind(self) -> None:
        """Nothing to do: a row group is written completely or not at all."""

    def _finish(self) -> None:
        try:
            if hasattr(self, "_writer") and self._writer.is_open:
                if self._is_open:
                    self._settle()
                    if self._rows.pending:
                        self._write_groups(self._rows.num_pending)
                self._writer.close()
        finally:
            if hasattr(self, "_file"):
                self._file.close()


SINKS: Final[dict[str, type[CsvSink] | type[ParquetSink] | type[JsonlSink]]] = {
    "csv": CsvSink,
    "parquet": ParquetSink,
    "jsonl": JsonlSink,
}


class _MultiSink(TableSink):
    """Several sinks as one; if one fails, all that are still open are aborted."""

    def __init__(self, sinks: Sequence[TableSink]) -> None:
        self._sinks = tuple(sinks)

    @property
    def paths(self) -> list[Path]:
        return [path for sink in self._sinks for path in sink.paths]

    def write(self, batch: pa.RecordBatch) -> None:
        self._each(lambda sink: sink.write(batch))

    def close(self) -> None:
        self._each(lambda sink: sink.close())

    def keep_partial(self) -> str:
        messages: list[str] = []
        self._each(lambda sink: messages.append(sink.keep_partial()))
        return "; ".join(messages)

    def abort(self) -> None:
        for sink in self._sinks:
            sink.abort()

    def _each(self, action: Callable[[TableSink], None]) -> None:
        try:
            for sink in self._sinks:
                action(sink)
        except OutputError:
            self.abort()
            raise


def open_sinks(folder: Path, *, stem: str, formats: Sequence[str], schema: pa.Schema) -> TableSink:
    """A sink that writes `<folder>/<stem>.<format>` for each of the formats (csv, parquet, jsonl).

    Raises ConfigError for an unknown format, OutputError if a file cannot be opened; no file is left behind then.
    """
    unknown = [name for name in formats if name not in SINKS]
    if unknown or not formats:
        wrong = f"'{unknown[0]}' is not a table format" if unknown else "no table format is given"
        raise ConfigError(f"{wrong}; expected one or more of {', '.join(SINKS)}")
    sinks: list[TableSink] = []
    try:
        for name in dict.fromkeys(formats):
            sinks.append(SINKS[name](folder / f"{stem}.{name}", schema=schema))
    except BaseException:
        _MultiSink(sinks).abort()
        raise
    return _MultiSink(sinks)


_TWO_DECIMALS = frozenset({"x1", "y1", "x2", "y2"})


def csv_header(schema: pa.Schema) -> str:
    """The header line with its line feed."""
    return ",".join(_quoted(name) for name in schema.names) + "\n"


def csv_lines(batch: pa.RecordBatch) -> str:
    """One CSV line per row, each with its line feed."""
    rows = zip(*_cells(batch, text=_quoted, null=""), strict=True)
    return "".join(",".join(row) + "\n" for row in rows)


def jsonl_lines(batch: pa.RecordBatch) -> str:
    """One JSON object per row, each with its line feed."""
    keys = [json.dumps(name) for name in batch.schema.names]
    rows = zip(*_cells(batch, text=_json_text, null="null"), strict=True)
    return "".join(
        "{" + ", ".join(f"{key}: {cell}" for key, cell in zip(keys, row, strict=True)) + "}\n" for row in rows
    )


def _cells(batch: pa.RecordBatch, *, text: Callable[[str], str], null: str) -> list[list[str]]:
    """The formatted values of every column."""
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

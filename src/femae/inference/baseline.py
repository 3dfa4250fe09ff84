"""Probabilities relative to a person's own baseline (`--baseline`), in six additional columns.

Neutral faces differ: to a network one looks a little sad, another a little angry. The baseline is each face's median
over the film (`median`), or its mean over the first seconds in which it is visible (`first:SECONDS`); the columns hold
probability minus baseline. The baseline is only known at the end, so rows are kept in a temporary file beside the table
(`<stem>.rows.part`) and read a second time; memory does not grow with the film. The median is exact to 0.0005: it is
the centre of a bin of 0.001.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from femae.config.predict import parse_baseline
from femae.errors import OutputError
from femae.inference.part_file import TableSink
from femae.inference.sinks import open_sinks
from femae.labels import EMOTIONS

__all__ = ["Baseline", "BaselineSink", "baseline_schema", "with_baseline"]

_NUM_BINS: Final = 1000
_SUFFIX: Final = "_minus_baseline"

Floats = npt.NDArray[np.float64]


def baseline_schema(schema: pa.Schema) -> pa.Schema:
    """The schema of a table of predictions with the six additional columns."""
    for emotion in EMOTIONS:
        schema = schema.append(pa.field(f"{emotion}{_SUFFIX}", pa.float32()))
    return schema


class Baseline:
    """Learns each face's baseline from batches of predictions, then adds the columns to them.

    kind: `median` or `first:SECONDS`. Rows without a face, and all rows of pictures, whose faces are not tracked, get
    null.
    """

    def __init__(self, kind: str) -> None:
        """Raises ConfigError for an unknown kind."""
        self._first_s = parse_baseline(kind)  # None: median
        self._bins: dict[int, npt.NDArray[np.int64]] = {}  # i64[6, bins] by face id
        self._sums: dict[int, tuple[float, int, Floats]] = {}  # first time, count, f64[6]

    def learn(self, batch: pa.RecordBatch) -> None:
        """Accumulate the rows of a batch; batches come in order."""
        ids, times_s, probs = _columns(batch)
        for face_id in np.unique(ids[ids >= 0]).tolist():
            own = (ids == face_id) & ~np.isnan(times_s)
            if not own.any():
                continue
            if self._first_s is None:
                place = np.clip((probs[own] * _NUM_BINS).astype(np.int64), 0, _NUM_BINS - 1)  # [K, 6]
                bins = self._bins.setdefault(face_id, np.zeros((len(EMOTIONS), _NUM_BINS), np.int64))
                for column in range(len(EMOTIONS)):
                    bins[column] += np.bincount(place[:, column], minlength=_NUM_BINS)
            else:
                start, count, total = self._sums.get(face_id, (float(times_s[own][0]), 0, np.zeros(len(EMOTIONS))))
                within = own & (times_s < start + self._first_s)
                self._sums[face_id] = (start, count + int(within.sum()), total + probs[within].sum(0))

    def of(self, face_id: int) -> Floats:
        """The baseline f64[6] of a face; NaN if the face is unknown."""
        if face_id in self._sums:
            _, count, total = self._sums[face_id]
            return total / count
        if face_id not in self._bins:
            return np.full(len(EMOTIONS), np.nan)
        counts = self._bins[face_id].cumsum(axis=1)
        total = counts[:, -1:]
        lower, upper = (counts >= (total + 1) // 2).argmax(axis=1), (counts >= total // 2 + 1).argmax(axis=1)
        return np.asarray((lower + upper + 1) / 2 / _NUM_BINS, np.float64)

    def add(self, batch: pa.RecordBatch, *, schema: pa.Schema) -> pa.RecordBatch:
        """The batch with its additional columns, under a schema of baseline_schema."""
        ids, _, probs = _columns(batch)
        known = {face_id: self.of(face_id) for face_id in np.unique(ids[ids >= 0]).tolist()}
        unknown = np.full(len(EMOTIONS), np.nan)
        values = probs - np.array([known.get(face_id, unknown) for face_id in ids.tolist()]).reshape(-1, len(EMOTIONS))
        further = [pa.array(column.astype(np.float32), pa.float32(), mask=np.isnan(column)) for column in values.T]
        return pa.RecordBatch.from_arrays([*batch.columns, *further], schema=schema)


def _columns(batch: pa.RecordBatch) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    """Face ids i64[N] (-1: none), times f64[N] and probabilities f64[N, 6], NaN where there are none."""
    ids = np.array([-1 if value is None else value for value in batch.column("face_id").to_pylist()], np.int64)
    times_s = batch.column("time_s").to_numpy(zero_copy_only=False).astype(np.float64)
    probs = [batch.column(name).to_numpy(zero_copy_only=False).astype(np.float64) for name in EMOTIONS]
    return ids, times_s, np.stack(probs, axis=1)


def with_baseline(table: pa.Table, kind: str) -> pa.Table:
    """A table of predictions with the additional columns. Raises ConfigError for an unknown kind."""
    baseline, schema = Baseline(kind), baseline_schema(table.schema)
    batches = table.to_batches()
    for batch in batches:
        baseline.learn(batch)
    return pa.Table.from_batches([baseline.add(batch, schema=schema) for batch in batches], schema=schema)


class BaselineSink(TableSink):
    """Writes tables with the additional columns; takes batches without them."""

    def __init__(self, folder: Path, *, stem: str, formats: Sequence[str], schema: pa.Schema, kind: str) -> None:
        """Raises ConfigError, OutputError."""
        self._schema, self._baseline = baseline_schema(schema), Baseline(kind)
        self._sink = open_sinks(folder, stem=stem, formats=formats, schema=self._schema)
        self._rows = folder / f"{stem}.rows.part"
        try:
            self._file = pa.OSFile(os.fspath(self._rows), "wb")
            self._writer = pa.ipc.new_stream(self._file, schema)
        except OSError as error:
            self._sink.abort()
            raise OutputError(f"cannot write {self._rows}: {error.strerror or error}") from error

    @property
    def paths(self) -> list[Path]:
        return self._sink.paths

    def write(self, batch: pa.RecordBatch) -> None:
        try:
            self._writer.write_batch(batch)
        except OSError as error:
            self.abort()
            raise OutputError(f"cannot write {self._rows}: {error.strerror or error}") from error
        self._baseline.learn(batch)

    def close(self) -> None:
        self._finish()
        self._sink.close()

    def keep_partial(self) -> str:
        self._finish()
        return self._sink.keep_partial()

    def abort(self) -> None:
        self._delete_rows()
        self._sink.abort()

    def _finish(self) -> None:
        """Read all rows again and write them with the baseline columns."""
        try:
            self._writer.close()
            self._file.close()
            for batch in self._read_rows():
                self._sink.write(self._baseline.add(batch, schema=self._schema))
        except OSError as error:
            self.abort()
            raise OutputError(f"cannot read {self._rows} again: {error.strerror or error}") from error
        self._delete_rows()

    def _read_rows(self) -> Iterator[pa.RecordBatch]:
        with pa.OSFile(os.fspath(self._rows), "rb") as file, pa.ipc.open_stream(file) as reader:
            yield from reader

    def _delete_rows(self) -> None:
        with suppress(OSError, pa.ArrowException):
            self._writer.close()
        with suppress(OSError):
            self._file.close()
            self._rows.unlink(missing_ok=True)

"""The table of predictions: one row per face and frame, and one per frame without a face.

Columns, in this order: source, frame, time_s, face_id, status, x1, y1, x2, y2, detection_score, the six emotions, one
column per compound of the class set, compound, compound_score, expression, expression_probability, action units if the
model has them, the six raw probabilities with smoothing or gap filling, and the columns of `--columns`.

A missing value is null: face_id and everything from x1 on in rows without a face; the time of a picture; detection
score and raw probabilities of a face that was filled in. `compound` is null without a face and an empty string where
the rule abstained (in CSV both are empty: `status` tells them apart).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import import_module
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from femae import __version__
from femae.errors import MissingDependencyError, OutputError
from femae.inference.baseline import with_baseline
from femae.inference.derived.frames import frames_of, timed
from femae.inference.derived.segments import Segments, Windows, segment_batch, window_batch
from femae.inference.derived.totals import Totals, total_batch
from femae.inference.sinks import SINKS
from femae.labels import EMOTIONS, Compound, compound_from_pair
from femae.types import FaceResult, FrameResult

__all__ = ["Predictions", "prediction_schema", "results_to_batch"]

_ROWS_PER_BATCH = 4096


def prediction_schema(
    compounds: tuple[Compound, ...],
    *,
    au_names: Sequence[str] = (),
    raw: bool = False,
    measured: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
) -> pa.Schema:
    """The columns for one class set and model.

    au_names: names of the model's action units, such as AU01; raw: add raw_surprise, raw_fear, ...;
    measured: columns of inference.classification;
    metadata: how the table was made, stored with `femae_version` and `compounds` in Arrow and Parquet.
    """
    floats = ["x1", "y1", "x2", "y2", "detection_score", *EMOTIONS, *(compound.column for compound in compounds)]
    last = ["expression_probability", *au_names, *(f"raw_{emotion}" for emotion in EMOTIONS if raw), *measured]
    fields: list[pa.Field[Any]] = [
        pa.field("source", pa.string(), nullable=False),
        pa.field("frame", pa.int64(), nullable=False),
        pa.field("time_s", pa.float64()),
        pa.field("face_id", pa.int64()),
        pa.field("status", pa.string(), nullable=False),
        *(pa.field(name, pa.float32()) for name in floats),
        pa.field("compound", pa.string()),
        pa.field("compound_score", pa.float32()),
        pa.field("expression", pa.string()),
        *(pa.field(name, pa.float32()) for name in last),
    ]
    names = [field.name for field in fields]
    assert len(set(names)) == len(names), f"two columns have the same name: {names}"
    about: dict[bytes | str, bytes | str] = {"femae_version": __version__}
    about["compounds"] = ", ".join(compound.name for compound in compounds)
    about.update(metadata or {})
    return pa.schema(fields, metadata=about)


def results_to_batch(results: Sequence[FrameResult], *, schema: pa.Schema) -> pa.RecordBatch:
    """The rows of some frames, in their order, under a schema of `prediction_schema` for the same class set and model.

    Bytes of a file name that are not valid text (possible on Linux) become question marks.
    """
    rows: list[tuple[FrameResult, FaceResult | None]] = [
        (result, face) for result in results for face in (result.faces or (None,))
    ]
    float_names = [field.name for field in schema if field.type == pa.float32()]
    raw = f"raw_{EMOTIONS[0]}" in float_names
    values = np.full((len(rows), len(float_names)), np.nan, np.float32)  # NaN: null
    for row, (_, face) in enumerate(rows):
        if face is not None:
            numbers = _numbers(face, raw=raw)
            assert len(numbers) == len(float_names), f"{len(numbers)} numbers of a face for {len(float_names)} columns"
            values[row] = numbers
    columns: dict[str, pa.Array[Any]] = {
        "source": _texts([result.frame.source for result, _ in rows]),
        "frame": _numbers_column([result.frame.index for result, _ in rows], pa.int64()),
        "time_s": _numbers_column([result.frame.time_s for result, _ in rows], pa.float64()),
        "face_id": _numbers_column([face.face_id if face else None for _, face in rows], pa.int64()),
        "status": _texts([result.status for result, _ in rows]),
        "compound": _texts([face.compound if face else None for _, face in rows]),
        "expression": _texts([face.expression if face else None for _, face in rows]),
    }
    known = ~np.isnan(values)
    for column, name in enumerate(float_names):
        columns[name] = _column(pa.float32(), known[:, column], np.ascontiguousarray(values[:, column]))
    return pa.record_batch([columns[name] for name in schema.names], schema=schema)


def _numbers(face: FaceResult, *, raw: bool) -> npt.NDArray[np.float32]:
    """The float columns of a face, in the schema's order."""
    parts: list[Any] = [face.face.box_xyxy, [face.face.score], face.probs, face.scores]
    parts += [[face.compound_score], [face.expression_probability], face.au_probs]
    if raw:
        unsmoothed = np.full(len(EMOTIONS), np.nan) if face.filled else face.probs
        parts.append(unsmoothed if face.raw_probs is None else face.raw_probs)
    parts.append(face.measured)
    return np.concatenate(parts).astype(np.float32)


def _column(kind: pa.DataType, known: npt.NDArray[np.bool_], *parts: Any) -> "pa.Array[Any]":
    """A column of `kind` from its buffers `parts`, given as arrays; null where `known` bool[N] is false.

    Not pa.array, which imports pandas if that is installed: a third of a second at every start.
    """
    nulls = int(len(known) - known.sum())
    bits: Any = np.packbits(known, bitorder="little") if nulls else None
    buffers = [None if part is None else pa.py_buffer(part) for part in (bits, *parts)]
    return pa.Array.from_buffers(kind, len(known), buffers, null_count=nulls)


def _numbers_column(values: Sequence[float | None], kind: pa.DataType) -> "pa.Array[Any]":
    known = np.array([value is not None for value in values], np.bool_)
    return _column(kind, known, np.array([value or 0 for value in values], kind.to_pandas_dtype()))


def _texts(values: Sequence[str | None]) -> "pa.Array[Any]":
    """N strings or None -> string[N] in UTF-8; invalid characters become question marks."""
    known = np.array([value is not None for value in values], np.bool_)
    encoded = [(value or "").encode("utf-8", "replace") for value in values]
    offsets = np.zeros(len(encoded) + 1, np.int32)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    return _column(pa.string(), known, offsets, np.frombuffer(b"".join(encoded), np.uint8))


class Predictions:
    """The table of one input, and problems with it."""

    def __init__(self, table: pa.Table, *, problems: Sequence[str] = ()) -> None:
        """table: rows under a schema of `prediction_schema`; problems: sentences, such as which frames were damaged."""
        self.table = table
        self.problems = tuple(problems)

    @classmethod
    def from_batches(
        cls, batches: Sequence[pa.RecordBatch], *, schema: pa.Schema, problems: Sequence[str] = ()
    ) -> "Predictions":
        """Join batches (none: an empty table)."""
        return cls(pa.Table.from_batches(list(batches), schema=schema), problems=problems)

    def __len__(self) -> int:
        """Number of rows."""
        return self.table.num_rows

    def __repr__(self) -> str:
        import pyarrow.compute as pc  # slow to import

        sources = pc.unique(self.table["source"]).to_pylist()
        what = sources[0] if len(sources) == 1 else f"{len(sources)} pictures"
        with_face = self.table.filter(pc.is_valid(self.table["face_id"]))
        without = self.table.num_rows - with_face.num_rows
        num_frames = without + len(with_face.group_by(["source", "frame"]).aggregate([]))
        parts = [f"{num_frames} frames, {without} without a face", f"{with_face.num_rows} faces"]
        if with_face.num_rows:
            name, number = Counter(with_face["expression"].to_pylist()).most_common(1)[0]
            parts.append(f"mostly {name} ({number / with_face.num_rows:.0%})")
        if self.problems:
            parts.append(f"{len(self.problems)} problem{'s' * (len(self.problems) != 1)}")
        return f"<Predictions for {what}: {'; '.join(parts)}>"

    def to_pandas(self) -> Any:
        """A pandas DataFrame: missing values NaN, face_id Int64. Raises MissingDependencyError without pandas."""
        _optional("pandas", wanted_by="to_pandas()")
        frame = self.table.to_pandas()
        frame["face_id"] = frame["face_id"].astype("Int64")
        return frame

    def to_polars(self) -> Any:
        """A polars DataFrame. Raises MissingDependencyError where polars is not installed."""
        return _optional("polars", wanted_by="to_polars()").from_arrow(self.table)

    def with_baseline(self, kind: str = "median") -> pa.Table:
        """The table with six more columns, each probability minus the face's baseline (inference.baseline).

        kind: `median` or `first:SECONDS`. Raises ConfigError for another one.
        """
        return with_baseline(self.table, kind)

    def segments(self, *, min_s: float = 0.0) -> pa.Table:
        """Segments of one expression of one face (inference.derived.segments); films only, pictures give no row.

        min_s: seconds; a shorter segment is merged into its neighbour, or dropped if it has none.
        """
        maker = Segments(min_s=min_s)
        found = [segment for moment in timed(frames_of(self.table)) for segment in maker.push(moment)]
        return pa.Table.from_batches([segment_batch([*found, *maker.finish()])])

    def windows(self, seconds: float) -> pa.Table:
        """Means over windows of equal length per face (inference.derived.segments); films only."""
        maker = Windows(seconds=seconds)
        rows = [row for moment in timed(frames_of(self.table)) for row in maker.push(moment)]
        return pa.Table.from_batches([window_batch([*rows, *maker.finish()])])

    def summary(self) -> pa.Table:
        """Totals (inference.derived.totals): a row per face of a film, one row for pictures."""
        compounds = _compounds_of(self.table.schema)
        film = self.table["time_s"].null_count < self.table.num_rows
        import pyarrow.compute as pc

        sources = pc.unique(self.table["source"]).to_pylist()
        name = str(sources[0]) if len(sources) == 1 else f"{len(sources)} pictures"
        totals = Totals(name, compounds=compounds, film=film)
        frames = list(frames_of(self.table))
        for frame in frames:
            totals.count(frame)
        for moment in timed(frames) if film else ():
            totals.push(moment)
        return pa.Table.from_batches([total_batch(list(totals.rows()), compounds=compounds)])

    def write(self, path: str | Path) -> Path:
        """Write the table as .csv, .parquet or .jsonl, by the suffix of `path`; a file of that name is replaced.

        Raises OutputError for another suffix, and where the file cannot be written.
        """
        target = Path(path)
        kind = target.suffix.lower().removeprefix(".")
        if kind not in SINKS:
            known = ", ".join(f".{name}" for name in SINKS)
            raise OutputError(
                f"cannot write {target}: '{target.suffix}' is not a table format; end the name in {known}"
            )
        sink = SINKS[kind](target, schema=self.table.schema)
        try:
            for batch in self.table.to_batches(max_chunksize=_ROWS_PER_BATCH):
                sink.write(batch)
            sink.close()
        except BaseException:
            sink.abort()
            raise
        return target


def _compounds_of(schema: pa.Schema) -> tuple[Compound, ...]:
    """The class set of a table, from the columns between the six emotions and `compound`."""
    names = schema.names
    own = names[names.index(EMOTIONS[-1]) + 1 : names.index("compound")]
    by_column = {c.column: c for c in (compound_from_pair(*pair) for pair in permutations(EMOTIONS, 2))}
    return tuple(by_column[name] for name in own)


def _optional(name: str, *, wanted_by: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingDependencyError(f"{wanted_by} needs {name}, which is not installed: pip install {name}") from error

"""Reads tables of predictions (CSV, Parquet, JSON lines) into arrays for the reports."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from femae.errors import InputError
from femae.inference.sinks import csv_header, csv_lines
from femae.inference.tables import Predictions
from femae.labels import COMPOUNDS, EMOTIONS, NO_EXPRESSION, Compound, compound_from_pair
from femae.types import LabelView

__all__ = ["LABEL_WORDS", "PredictionTable", "read_alike", "read_predictions", "table_csv"]

_LEADING = ("source", "frame", "time_s", "face_id", "status", "x1", "y1", "x2", "y2", "detection_score")
_TEXTS = ("source", "status", "compound", "expression")
_OLD: Final = (
    "'{}' was written by an older femae and has no column expression: the compounds of the paper's rule are shown, "
    "which name one of the class set for every face."
)

# Per view: the words for a label and for its number.
LABEL_WORDS: Final[dict[LabelView, tuple[str, str]]] = {
    "expression": ("expression", "probability"),
    "compound": ("compound", "score"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionTable:
    """One table of predictions, rows in their original order.

    Arrays have one entry per row: source, status object; frame i64 (from 1); time_s f64 (NaN: a picture); face_id i64
    (0: no face); boxes f32[N, 4] pixels, detection f32, emotions f32[N, 6], scores f32[N, K], aus f32[N, A], all NaN
    without a face. The label in the view `labels`: `label` i64, index into `names` (-1: no face, or abstained), and
    `certainty` f32, the probability of an expression or the score of a compound (NaN: no face).
    """

    name: str
    table: pa.Table
    compounds: tuple[Compound, ...]
    source: npt.NDArray[np.object_]
    frame: npt.NDArray[np.int64]
    time_s: npt.NDArray[np.float64]
    face_id: npt.NDArray[np.int64]
    status: npt.NDArray[np.object_]
    boxes: npt.NDArray[np.float32]
    detection: npt.NDArray[np.float32]
    emotions: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: LabelView
    names: tuple[str, ...]
    label: npt.NDArray[np.int64]
    certainty: npt.NDArray[np.float32]
    au_names: tuple[str, ...] = ()
    aus: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    metadata: dict[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def is_film(self) -> bool:
        """Whether the rows have times: frames of one film, not pictures."""
        return bool(len(self)) and bool(np.isfinite(self.time_s).any())

    @property
    def quiet(self) -> int:
        """Index of `none` in `names`, or -1."""
        return self.names.index(NO_EXPRESSION) if NO_EXPRESSION in self.names else -1

    def name_of(self, row: int) -> str:
        """The label of a row; empty without a face or if the rule abstained."""
        return self.names[self.label[row]] if self.label[row] >= 0 else ""


def read_predictions(
    table: str | Path | Predictions, *, name: str = "", labels: LabelView = "expression"
) -> PredictionTable:
    """Read a table of `femae predict` (.csv, .parquet, .jsonl), or convert one from Python.

    A table without expressions falls back to the view `compound`, with a sentence in `problems`. Raises InputError if
    it cannot be read or is not a table of predictions.
    """
    if isinstance(table, Predictions):
        return _to_arrays(table.table, name=name or "predictions", problems=table.problems, labels=labels)
    path = Path(table)
    if not path.is_file():
        raise InputError(f"'{path}' does not exist: give a table that femae predict wrote (.csv, .parquet, .jsonl)")
    try:
        arrow = _read(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"'{path}' cannot be read as a table: {str(error).splitlines()[0]}") from error
    return _to_arrays(arrow, name=name or path.stem, problems=(), labels=labels)


def read_alike(tables: Sequence[str | Path], *, labels: LabelView) -> list[PredictionTable]:
    """Read tables to compare in the same view: `compound` if one has no expressions. Raises InputError."""
    read = [read_predictions(table, labels=labels) for table in tables]
    if all(table.labels == labels for table in read):
        return read
    return [_to_arrays(t.table, name=t.name, problems=t.problems, labels="compound") for t in read]


def table_csv(table: PredictionTable) -> bytes:
    """The complete table in the format of `femae predict --format csv`."""
    batches = table.table.combine_chunks().to_batches(max_chunksize=4096)
    return (csv_header(table.table.schema) + "".join(csv_lines(batch) for batch in batches)).encode()


def _read(path: Path) -> pa.Table:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return pq.read_table(path)
    if suffix == ".jsonl":
        return pyarrow.json.read_json(path)
    if suffix != ".csv":
        raise ValueError(f"'{suffix}' is not a table format; expected .csv, .parquet or .jsonl")
    with path.open("rb") as file:
        names = file.readline().decode("utf-8").strip().split(",")
    types: dict[str, Any] = {column: pa.float32() for column in names}
    types |= dict.fromkeys(_TEXTS, pa.string()) | {"frame": pa.int64(), "face_id": pa.int64(), "time_s": pa.float64()}
    options = pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=False)
    parsing = pyarrow.csv.ParseOptions(newlines_in_values=True)
    return pyarrow.csv.read_csv(path, convert_options=options, parse_options=parsing)


def _to_arrays(table: pa.Table, *, name: str, problems: tuple[str, ...], labels: LabelView) -> PredictionTable:
    names = table.schema.names
    missing = [column for column in (*_LEADING, *EMOTIONS, "compound", "compound_score") if column not in names]
    if missing:
        raise InputError(f"'{name}' is not a table of predictions: it has no column {', '.join(missing)}")
    compounds = _compounds(names[names.index(EMOTIONS[-1]) + 1 : names.index("compound")], name=name)
    au_names = tuple(column for column in names if column.startswith("AU") and column[2:].isdigit())
    raw = table.schema.metadata or {}
    if labels == "expression" and "expression" not in names:
        labels, problems = "compound", (*problems, _OLD.format(name))
    shown = tuple(compound.name for compound in compounds)
    if labels == "expression":
        shown = (NO_EXPRESSION, *EMOTIONS, *shown)
    index = {label: number for number, label in enumerate(shown)}
    return PredictionTable(
        name=name,
        table=table,
        compounds=compounds,
        source=_texts(table, "source"),
        frame=_integers(table, "frame"),
        time_s=_floats(table, ["time_s"], np.float64)[:, 0],
        face_id=_integers(table, "face_id"),
        status=_texts(table, "status"),
        boxes=_floats(table, ["x1", "y1", "x2", "y2"]),
        detection=_floats(table, ["detection_score"])[:, 0],
        emotions=_floats(table, list(EMOTIONS)),
        scores=_floats(table, [compound.column for compound in compounds]),
        labels=labels,
        names=shown,
        label=np.array([index.get(text, -1) for text in _texts(table, labels)], np.int64),
        certainty=_floats(table, ["_".join((labels, LABEL_WORDS[labels][1]))])[:, 0],
        au_names=au_names,
        aus=_floats(table, list(au_names)),
        metadata={key.decode(): value.decode("utf-8", "replace") for key, value in raw.items()},
        problems=problems,
    )


def _compounds(columns: list[str], *, name: str) -> tuple[Compound, ...]:
    """The class set of a table, from its column names. Raises InputError."""
    pairs = {(a, b): compound_from_pair(a, b) for a in EMOTIONS for b in EMOTIONS if a != b}
    known = {compound.column: compound for compound in (*pairs.values(), *COMPOUNDS)}
    wrong = [column for column in columns if column not in known]
    if wrong or not columns:
        raise InputError(
            f"'{name}' is not a table of predictions: '{(wrong or ['nothing'])[0]}' is not a compound expression"
        )
    return tuple(known[column] for column in columns)


def _texts(table: pa.Table, column: str) -> npt.NDArray[np.object_]:
    return np.array([value or "" for value in table[column].to_pylist()], object)


def _integers(table: pa.Table, column: str) -> npt.NDArray[np.int64]:
    """Integers, 0 for null."""
    filled: Any = pc.fill_null(table[column].cast(pa.int64()), 0)  # type: ignore[type-var]
    return np.asarray(filled.to_numpy(), np.int64)


def _floats(table: pa.Table, columns: list[str], dtype: Any = np.float32) -> npt.NDArray[Any]:
    """The columns as [N, len(columns)], NaN for null."""
    values = np.full((table.num_rows, len(columns)), np.nan, dtype)
    for number, column in enumerate(columns):
        values[:, number] = table[column].cast(pa.float64()).to_numpy(zero_copy_only=False)
    return values

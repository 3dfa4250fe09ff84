"""The frames and faces of one video, from a table of `femae predict` (CSV, Parquet or JSON lines)."""

import re
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from femae.errors import DataError, InputError
from femae.labels import EMOTIONS

__all__ = ["COLUMNS", "TABLE_SUFFIXES", "Film", "empty_film", "film_from_table", "read_table"]

_BOX = ("x1", "y1", "x2", "y2")
COLUMNS = ("source", "frame", "time_s", "face_id", "status", *_BOX, *EMOTIONS)  # required in a table
_UNIT = re.compile(r"AU\d\d")
TABLE_SUFFIXES: Final = (".parquet", ".jsonl", ".csv")  # in order of precision: csv and jsonl keep six decimals
_TEXTS: Final = ("source", "status", "compound", "expression")
_INTEGERS: Final = ("frame", "face_id")


@dataclass(frozen=True, kw_only=True, slots=True)
class Film:
    """Frames 1 .. num_frames of one video, and its N faces, ordered by frame and id."""

    name: str  # for messages
    num_frames: int  # for a folder of pictures: the largest number in their names
    is_pictures: bool  # frames without a file have no face, and the true length is unknown
    times_s: npt.NDArray[np.float64]  # f64[num_frames]; NaN: unknown
    num_unreadable: int
    frames: npt.NDArray[np.int64]  # i64[N], frame of each face, ascending
    face_ids: npt.NDArray[np.int64]  # i64[N]
    boxes_xyxy: npt.NDArray[np.float32]  # f32[N, 4]
    probs: npt.NDArray[np.float32]  # f32[N, 6]
    au_names: tuple[str, ...]
    au_probs: npt.NDArray[np.float32]  # f32[N, A]

    def only(self, faces: npt.NDArray[np.bool_]) -> "Film":
        """A copy with only the faces where `faces` bool[N] is True."""
        return replace(
            self,
            frames=self.frames[faces],
            face_ids=self.face_ids[faces],
            boxes_xyxy=self.boxes_xyxy[faces],
            probs=self.probs[faces],
            au_probs=self.au_probs[faces],
        )


def film_from_table(table: pa.Table, *, name: str) -> Film:
    """The film of a table of `femae predict`; in a table of pictures the file name ends in the frame number.

    Raises DataError for a missing column, a table without rows, an invalid frame, a picture without a number, or a face
    without probabilities.
    """
    missing = [column for column in COLUMNS if column not in table.column_names]
    if missing:
        raise DataError(f"{name} is not a table of `femae predict`: it has no column {', '.join(missing)}")
    if not table.num_rows:
        raise DataError(f"{name} has no rows; was the film empty, or the run stopped?")
    sources = [str(source) for source in table["source"].to_pylist()]
    numbers = _floats(table, "frame").astype(np.int64)
    is_pictures = len(set(sources)) > 1 or (table["time_s"].null_count == table.num_rows and numbers.max() == 1)
    if is_pictures:
        numbers = _picture_numbers(sources, name=name)
    if numbers.min() < 1:
        raise DataError(f"{name} has a frame {numbers.min()}; frames count from 1")
    status = np.array(table["status"].to_pylist())
    faces = np.flatnonzero(status == "ok")
    ids = np.nan_to_num(_floats(table, "face_id"), nan=0).astype(np.int64)
    faces = faces[np.lexsort((ids[faces], numbers[faces]))]
    probs = _matrix(table, EMOTIONS)[faces]
    if np.isnan(probs).any():
        raise DataError(f"{name} has a face without probabilities in frame {numbers[faces][np.isnan(probs).any(1)][0]}")
    units = tuple(column for column in table.column_names if _UNIT.fullmatch(column))
    times_s = np.full(numbers.max(), np.nan)
    times_s[numbers - 1] = _floats(table, "time_s")
    return Film(
        name=name,
        num_frames=int(numbers.max()),
        is_pictures=is_pictures,
        times_s=times_s,
        num_unreadable=len(set(numbers[status == "unreadable"].tolist())),
        frames=numbers[faces],
        face_ids=ids[faces],
        boxes_xyxy=_matrix(table, _BOX)[faces],
        probs=probs,
        au_names=units,
        au_probs=_matrix(table, units)[faces],
    )


def empty_film(name: str, *, num_frames: int) -> Film:
    """A film without faces."""
    none = np.zeros((0,), np.int64)
    return Film(
        name=name,
        num_frames=num_frames,
        is_pictures=False,
        times_s=np.full(num_frames, np.nan),
        num_unreadable=0,
        frames=none,
        face_ids=none,
        boxes_xyxy=np.zeros((0, 4), np.float32),
        probs=np.zeros((0, len(EMOTIONS)), np.float32),
        au_names=(),
        au_probs=np.zeros((0, 0), np.float32),
    )


def _picture_numbers(sources: list[str], *, name: str) -> npt.NDArray[np.int64]:
    """The frame number at the end of each file name, i64[N]: 00012.jpg -> 12. Raises DataError."""
    found = [re.search(r"(\d+)\.[^.]*$", source) for source in sources]
    unnamed = [source for source, match in zip(sources, found, strict=True) if match is None]
    if unnamed:
        raise DataError(
            f"{name} is a table of pictures, but the name '{unnamed[0]}' does not end in a frame number "
            f"as 00012.jpg does"
        )
    numbers = [int(match[1]) for match in found if match is not None]
    frames: dict[int, str] = {}
    for number, source in zip(numbers, sources, strict=True):
        if frames.setdefault(number, source) != source:
            raise DataError(f"{name}: '{frames[number]}' and '{source}' are both frame {number}")
    return np.array(numbers, np.int64)


def _floats(table: pa.Table, column: str) -> npt.NDArray[np.float64]:
    values = table[column].cast(pa.float64()).to_numpy()
    return np.asarray(values, np.float64)  # nulls become NaN


def _matrix(table: pa.Table, columns: Any) -> npt.NDArray[np.float32]:
    """The columns as f32[N, K]; NaN for null."""
    if not columns:
        return np.zeros((table.num_rows, 0), np.float32)
    return np.stack([_floats(table, column) for column in columns], axis=1).astype(np.float32)


def read_table(path: Path) -> pa.Table:
    """Read a table: texts as string, frame and face_id as int64, everything else as float64.

    Raises InputError if the file cannot be read, DataError if it is not such a table.
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

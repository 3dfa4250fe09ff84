"""Predictions beside labels: which probabilities belong to each labelled sample, and which samples were missed.

A labelled row is missed when its row of predictions is `no_face` or `unreadable`, or when there is none. Rows of
predictions without a label do not count. With several faces in a frame: `largest` takes the face with the largest box
(of equal ones, or without boxes, the first row), `max` and `mean` the maximum or mean of each probability over the
faces. Labels with a column `face_id` are of one face each and joined to that face.

Rows belong together by the name of the picture or film, and by frame and face where both tables have it. Names are
compared as they stand, or, where more agree so, without folder and suffix: `a/fer0000009.png` and `fer0000009` are then
one picture.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from femae.errors import DataError
from femae.evaluation.tables import float_column, float_columns, integer_column, text_column
from femae.labels import EMOTIONS

__all__ = [
    "Key",
    "Match",
    "Several",
    "first_double",
    "joined_rows",
    "match_columns",
    "merge_faces",
    "probabilities",
    "row_keys",
]

Several = Literal["largest", "max", "mean"]
Floats = npt.NDArray[np.float32]
_NAMES: Final = ("source", "key", "name", "path", "index")
Key = tuple[str, int, int]  # name, frame (0: the table has none), face (0: none)


def probabilities(table: pa.Table, names: Sequence[str], *, path: Path) -> Floats:
    """Columns f32[N, K] of probabilities; a row is NaN throughout where nothing was found.

    Raises DataError for a missing column, a value out of range, or a row with only some of its values.
    """
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise DataError(
            f"{path} lacks the columns {', '.join(missing)}; expected a table of scores or of predictions with "
            f"{', '.join(EMOTIONS)}"
        )
    values = float_columns(table, names, path=path, what="probabilities")
    absent = np.isnan(values)
    partly = np.flatnonzero(absent.any(1) & ~absent.all(1))
    if partly.size:
        raise DataError(f"{path}, row {partly[0] + 1}: some probabilities are missing; expected all or none")
    status = np.array(text_column(table, "status"))
    lost = np.flatnonzero((status == "ok") & absent.all(1)) if len(names) else np.zeros(0)
    if lost.size:
        raise DataError(f"{path}, row {lost[0] + 1}: status is ok, but there are no probabilities")
    return values


def joined_rows(
    table: pa.Table, labels: pa.Table, *, paths: tuple[Path, Path], on: str = ""
) -> tuple[list[list[int]], str]:
    """For each row of labels the rows of the table that belong to it; also the column of labels that names the source.

    Raises DataError where a label stands twice, or names no frame although the film has many.
    """
    match = match_columns(table, labels, paths=paths, on=on)
    left, right = match.columns
    with_frame = "frame" in table.column_names and "frame" in labels.column_names
    with_face = "face_id" in table.column_names and "face_id" in labels.column_names
    wanted = row_keys(labels, match=match, side=1, path=paths[1], with_frame=with_frame, with_face=with_face)
    double = first_double(wanted)
    if double is not None:
        how = "names as they stand" if match.whole else "names without folder and suffix"
        raise DataError(f"{paths[1]}: two rows are labels of {_in_words(double)} (column {right}, {how}); expected one")
    if not with_frame:
        _check_single_frames(table, left, paths)
    given = row_keys(table, match=match, side=0, path=paths[0], with_frame=with_frame, with_face=with_face)
    return _rows_of(given, wanted), right


def _in_words(key: Key) -> str:
    stem, frame, face = key
    return stem + (f", frame {frame}" if frame else "") + (f", face {face}" if face else "")


def _check_single_frames(table: pa.Table, column: str, paths: tuple[Path, Path]) -> None:
    if "frame" not in table.column_names:
        return
    frames = integer_column(table, "frame", missing=1, path=paths[0])
    if (frames > 1).any():
        film = text_column(table, column)[int(np.argmax(frames))]
        raise DataError(
            f"{paths[1]} has no column 'frame', but {film} has {int(frames.max())} frames: say which frame each label "
            "belongs to (the first is 1)"
        )


def _rows_of(given: list[Key], wanted: list[Key]) -> list[list[int]]:
    rows: dict[Key, list[int]] = {}
    for row, key in enumerate(given):
        rows.setdefault(key, []).append(row)
    return [rows.get(key, []) for key in wanted]


def merge_faces(
    table: pa.Table, values: Floats, *, rows: list[list[int]], several: Several, path: Path
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Values f32[M, K] for M lists of rows of f32[N, K], and the row i64[M] that stands for each, -1 for none.

    Where no row of a list has values the result is NaN.
    """
    boxes = [float_column(table, name, path=path) for name in ("x1", "y1", "x2", "y2")]
    area = np.nan_to_num((boxes[2] - boxes[0]) * (boxes[3] - boxes[1]), nan=0.0)
    found = np.asarray(~np.isnan(values).all(axis=1), np.bool_)
    out = np.full((len(rows), values.shape[1]), np.nan, np.float32)
    chosen = np.full(len(rows), -1, np.int64)
    for place, every in enumerate(rows):
        faces = [row for row in every if found[row]]
        if every:
            chosen[place] = max(faces, key=lambda row: area[row]) if faces else every[0]
        if len(faces) == 1 or (faces and several == "largest"):
            out[place] = values[chosen[place]]
        elif faces:
            out[place] = values[faces].max(0) if several == "max" else values[faces].mean(0)
    return out, chosen


def _stem(text: str) -> str:
    name = PurePosixPath(text.replace("\\", "/")).name
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and stem and suffix.isalnum() and not suffix.isdigit() else name


def _names(table: pa.Table) -> list[str]:
    """Columns that may name the picture or film. `source` of shards is their data set, and `key` the picture."""
    names = [name for name in _NAMES if name in table.column_names]
    return [name for name in names if not (name == "source" and "key" in names)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """The column of each of two tables that names the picture or film, and how names are compared."""

    columns: tuple[str, str]
    whole: bool  # as they stand; otherwise without folder and suffix

    def names(self, table: pa.Table, *, side: int) -> list[str]:
        """The names of each row as they are compared; side 0 or 1."""
        return _forms(text_column(table, self.columns[side]), whole=self.whole)


def _forms(texts: list[str], *, whole: bool) -> list[str]:
    return [text.replace("\\", "/") if whole else _stem(text) for text in texts]


def match_columns(first: pa.Table, second: pa.Table, *, paths: Sequence[Path], on: str = "") -> Match:
    """The columns and the comparison by which most names agree. `on`: the column of the second table.

    Raises DataError when there are none or nothing agrees.
    """
    if on and on not in second.column_names:
        raise DataError(f"{paths[1]} has no column '{on}'; it has {', '.join(second.column_names)}")
    sides = (_names(first), [on] if on else _names(second))
    for path, found in zip(paths, sides, strict=True):
        if not found:
            raise DataError(f"{path} has no column that names the picture or film: expected one of {', '.join(_NAMES)}")
    matches = [Match(columns=(a, b), whole=whole) for whole in (True, False) for a in sides[0] for b in sides[1]]
    counts = [len({*one.names(first, side=0)} & {*one.names(second, side=1)}) for one in matches]
    best = matches[counts.index(max(counts))]
    if not max(counts):
        (one, other), tables = best.columns, (first, second)
        examples = [text_column(table, name)[0] for table, name in zip(tables, best.columns, strict=True)]
        raise DataError(
            f"no name in {paths[0]} (column {one}, e.g. {examples[0]}) is in {paths[1]} (column {other}, "
            f"e.g. {examples[1]}): give tables of the same pictures or films, or name their column with --key"
        )
    return best


def row_keys(table: pa.Table, *, match: Match, side: int, path: Path, with_frame: bool, with_face: bool) -> list[Key]:
    """Key of each row; without frame or face these are 0."""
    names = match.names(table, side=side)
    frames = integer_column(table, "frame", missing=1, path=path).tolist() if with_frame else [0] * len(names)
    faces = integer_column(table, "face_id", missing=0, path=path).tolist() if with_face else [0] * len(names)
    return list(zip(names, frames, faces, strict=True))


def first_double(keys: Sequence[Key]) -> Key | None:
    """A key that stands more than once."""
    return next((key for key, count in Counter(keys).items() if count > 1), None)

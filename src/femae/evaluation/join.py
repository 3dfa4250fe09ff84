"""Joins predictions with labels: the probabilities of each labelled sample, and which samples were missed.

A labelled row is missed if its row of predictions is `no_face` or `unreadable`, or if there is none. Predictions
without a label are ignored. With several faces in a frame, `largest` takes the face with the largest box (of equal
ones, or without boxes, the first row), `max` and `mean` the maximum or mean of each probability over the faces. Labels
with a column `face_id` are joined with that face.

Rows are matched by the name of the picture or film, and by frame and face if both tables have them. Names are compared
unchanged, or, if that gives more matches, without folder and suffix: `a/fer0000009.png` and `fer0000009` are then the
same picture.
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
    "first_duplicate",
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
    """Columns of probabilities f32[N, K]; a row is all NaN if no face was found.

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
    """The matching rows of the table for each row of labels, and the column of labels that names the source.

    Raises DataError if two labels have the same key, or if labels have no frame although a film has several.
    """
    match = match_columns(table, labels, paths=paths, on=on)
    left, right = match.columns
    with_frame = "frame" in table.column_names and "frame" in labels.column_names
    with_face = "face_id" in table.column_names and "face_id" in labels.column_names
    label_keys = row_keys(labels, match=match, side=1, path=paths[1], with_frame=with_frame, with_face=with_face)
    duplicate = first_duplicate(label_keys)
    if duplicate is not None:
        how = "names as they stand" if match.whole else "names without folder and suffix"
        twice = _in_words(duplicate)
        raise DataError(f"{paths[1]}: two rows are labels of {twice} (column {right}, {how}); expected one")
    if not with_frame:
        _check_single_frames(table, left, paths)
    keys = row_keys(table, match=match, side=0, path=paths[0], with_frame=with_frame, with_face=with_face)
    return _rows_of(keys, label_keys), right


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


def _rows_of(keys: list[Key], label_keys: list[Key]) -> list[list[int]]:
    rows: dict[Key, list[int]] = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    return [rows.get(key, []) for key in label_keys]


def merge_faces(
    table: pa.Table, values: Floats, *, rows: list[list[int]], several: Several, path: Path
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Merge each of M lists of rows of `values` f32[N, K] into one row: f32[M, K], NaN if none has values.

    Also returns the representative row i64[M] of each list, -1 for an empty one.
    """
    boxes = [float_column(table, name, path=path) for name in ("x1", "y1", "x2", "y2")]
    area = np.nan_to_num((boxes[2] - boxes[0]) * (boxes[3] - boxes[1]), nan=0.0)
    found = np.asarray(~np.isnan(values).all(axis=1), np.bool_)
    out = np.full((len(rows), values.shape[1]), np.nan, np.float32)
    chosen = np.full(len(rows), -1, np.int64)
    for index, own in enumerate(rows):
        faces = [row for row in own if found[row]]
        if own:
            chosen[index] = max(faces, key=lambda row: area[row]) if faces else own[0]
        if len(faces) == 1 or (faces and several == "largest"):
            out[index] = values[chosen[index]]
        elif faces:
            out[index] = values[faces].max(0) if several == "max" else values[faces].mean(0)
    return out, chosen


def _stem(text: str) -> str:
    name = PurePosixPath(text.replace("\\", "/")).name
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and stem and suffix.isalnum() and not suffix.isdigit() else name


def _names(table: pa.Table) -> list[str]:
    """Columns that may name the picture or film. In shards, `source` is the data set and `key` the picture."""
    names = [name for name in _NAMES if name in table.column_names]
    return [name for name in names if not (name == "source" and "key" in names)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """The columns that name the picture or film in two tables, and how names are compared."""

    columns: tuple[str, str]
    whole: bool  # unchanged; otherwise without folder and suffix

    def names(self, table: pa.Table, *, side: int) -> list[str]:
        """The normalised name of each row; side: 0 or 1, the first or second table."""
        return _normalised(text_column(table, self.columns[side]), whole=self.whole)


def _normalised(texts: list[str], *, whole: bool) -> list[str]:
    return [text.replace("\\", "/") if whole else _stem(text) for text in texts]


def match_columns(first: pa.Table, second: pa.Table, *, paths: Sequence[Path], on: str = "") -> Match:
    """The columns and the comparison with the most names in common. `on`: the column of the second table.

    Raises DataError if a table has no such column or no names agree.
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
    """The key of each row; frame or face are 0 if not used."""
    names = match.names(table, side=side)
    frames = integer_column(table, "frame", missing=1, path=path).tolist() if with_frame else [0] * len(names)
    faces = integer_column(table, "face_id", missing=0, path=path).tolist() if with_face else [0] * len(names)
    return list(zip(names, frames, faces, strict=True))


def first_duplicate(keys: Sequence[Key]) -> Key | None:
    """A key that occurs more than once, or None."""
    return next((key for key, count in Counter(keys).items() if count > 1), None)

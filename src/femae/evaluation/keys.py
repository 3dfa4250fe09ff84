"""Which row of a table belongs to which: by the name of the picture or film, and by frame and face where both have it.

Names are compared as they stand, or, where more agree so, without folder and suffix: `a/fer0000009.png` and
`fer0000009` are then one picture.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import pyarrow as pa

from femae.errors import DataError
from femae.evaluation.tables import integer_column, text_column

__all__ = ["Key", "Match", "first_double", "match_columns", "row_keys"]

_NAMES: Final = ("source", "key", "name", "path", "index")
Key = tuple[str, int, int]  # name, frame (0: the table has none), face (0: none)


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
            f"no name in {paths[0]} (column {one}, e.g. {examples[0]}) stands in {paths[1]} (column {other}, "
            f"e.g. {examples[1]}): give tables of the same pictures or films, or say with --key which column names them"
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

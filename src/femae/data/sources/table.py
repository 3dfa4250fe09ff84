"""Any table: csv, tsv or parquet with a path per row and any of emotion, votes, compound and action units.

| column | other names | meaning |
|---|---|---|
| path | image, file, filename, file_name | picture or film, relative to the table's folder (or `root`) |
| frame | | of a film, from 1 |
| emotion | label, expression, class | a label, a pair such as fear+surprise, or a number of `order` |
| compound | | a compound; unless empty it has precedence over `emotion` |
| happiness, neutral, ... | votes_happiness, ... | votes or shares; unless all 0 they have precedence over labels |
| AU01, AU1_c, AU1_r, ... | | action units; of OpenFace's two kinds the one that suits the scale |
| group | subject, person, video | samples that folds must not split; default: the film or the picture itself |
| split | | train, val, test |
| x1, y1, x2, y2 | | box of the face in pixels |

`columns="photo=path,feeling=emotion"` maps other names of columns. Codes of action units: sources/au_files.py.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from femae.data.samples import PictureFile, RawSample, VideoFrame
from femae.data.sources.au_files import DEFAULT_THRESHOLD, AuScale, action_unit_value, check_scale
from femae.data.sources.base import (
    BLANK_LINE,
    FILM_SUFFIXES,
    WRONG_COLUMNS,
    LeftOut,
    Source,
    csv_rows,
    key_of,
    numbered_label,
    picture_file,
    require,
)
from femae.data.sources.folders import label_order
from femae.data.targets import EmotionLabel, label_targets, unknown_targets, vote_targets
from femae.errors import ConfigError, DataError, LabelError
from femae.labels import action_unit_name, parse_label

__all__ = ["TableSource"]

_ROLES: Final = {
    "path": ("path", "image", "file", "filename", "file_name"),
    "frame": ("frame",),
    "emotion": ("emotion", "label", "expression", "class"),
    "compound": ("compound",),
    "group": ("group", "subject", "person", "video"),
    "split": ("split",),
    **{side: (side,) for side in ("x1", "y1", "x2", "y2")},
}
_UNIT: Final = re.compile(r"au[ _]?0*([1-9]\d?)(_c|_r)?")
Row = dict[str, str]


class TableSource(Source[Row]):
    """Reads a table."""

    def __init__(
        self,
        folder: Path,
        *,
        root: Path | None = None,
        columns: str = "",
        order: str = "",
        au_scale: AuScale = "occurrence",
        au_threshold: float = DEFAULT_THRESHOLD,
        crops: bool = False,
        keep_unlabelled: bool = False,
        name: str = "table",
    ) -> None:
        """`folder`: the path of the table. `crops`: pictures are face crops. Others: see the module's docstring.

        Raises DataError when the table or a column is missing, ConfigError for a wrong option.
        """
        super().__init__(name=name, keep_unlabelled=keep_unlabelled)
        require(folder.is_file(), what=f"{folder} is not a file", looked_for=["a .csv, .tsv or .parquet"])
        check_scale(au_scale, au_threshold)
        self._path, self._root, self._crops = folder, root or folder.parent, crops
        self._numbers, self._scale, self._threshold = label_order(order), au_scale, au_threshold
        header = _header(folder)
        own = _parse_columns(columns, header)
        self._roles = {role: _find_column(header, own, role, names) for role, names in _ROLES.items()}
        self._units = _unit_columns(header, au_scale)
        self._votes = _vote_columns([column for column in header if column not in self._roles.values()])
        if not self._roles["path"]:
            raise DataError(
                f"{folder} has no column of paths, only {', '.join(header)}: call it 'path', or name it with "
                f"columns='NAME=path'"
            )
        labels = [self._roles["emotion"], self._roles["compound"], *self._units, *self._votes]
        if not any(labels) and not keep_unlabelled:
            raise DataError(
                f"{folder} has no column of labels, only {', '.join(header)}: expected emotion, compound, votes or "
                "AUs, or keep_unlabelled"
            )

    def _items(self) -> Iterator[tuple[str, Row]]:
        if self._path.suffix.lower() == ".parquet":
            yield from _parquet_rows(self._path)
            return
        header: list[str] = []
        for number, row in csv_rows(self._path, delimiter=_delimiter(self._path)):
            where = f"{self._path.name}, line {number}"
            if not row:
                self._leave_out(BLANK_LINE, where)
            elif not header:
                header = row
            elif len(row) != len(header):
                self._leave_out(WRONG_COLUMNS, where)
            else:
                yield where, dict(zip(header, row, strict=True))

    def _sample(self, item: Row) -> RawSample:
        name = self._cell(item, "path").replace("\\", "/")
        if not name:
            raise LeftOut("row without a path")
        path = self._root / name
        key = key_of(path.relative_to(self._root) if path.is_relative_to(self._root) else path)
        picture: PictureFile | VideoFrame
        group = self._cell(item, "group") or key
        if path.suffix.lower() in FILM_SUFFIXES:
            picture = VideoFrame(path=path, frame=self._frame(item))
            if not path.is_file():
                raise LeftOut("film is missing")
            key = f"{key}#{picture.frame:05d}"
        else:
            picture = picture_file(path)
        label = self._label(item)
        return RawSample(
            key=key,
            picture=picture,
            group=f"{self.reading.source}/{key_of(group)}",
            split=self._cell(item, "split").lower(),
            class_name=label.class_name,
            targets=label.targets,
            mask=label.mask,
            action_units=self._action_units(item),
            box_xyxy=self._box(item),
            is_crop=self._crops,
        )

    def _cell(self, row: Row, role: str) -> str:
        return row[self._roles[role]] if self._roles[role] else ""

    def _frame(self, row: Row) -> int:
        text = self._cell(row, "frame")
        if not text.isdecimal() or int(text) < 1:
            raise LeftOut("frame of a film is not a number from 1")
        return int(text)

    def _label(self, row: Row) -> EmotionLabel:
        try:
            votes = {label: float(row[column] or 0) for column, label in self._votes.items()}
            if any(votes.values()):
                return vote_targets(votes)
            text = self._cell(row, "compound") or self._cell(row, "emotion")
            if not text:
                return unknown_targets()
            if text.lstrip("-").isdecimal() and self._numbers:
                return numbered_label(text, self._numbers)
            return label_targets(text)
        except LabelError:
            raise LeftOut("label is not a known word or votes are negative") from None
        except ValueError:
            raise LeftOut("votes are not numbers") from None

    def _action_units(self, row: Row) -> dict[str, float]:
        values = {
            unit: action_unit_value(row[column], scale=self._scale, threshold=self._threshold)
            for column, unit in self._units.items()
        }
        return {unit: value for unit, value in values.items() if value is not None}

    def _box(self, row: Row) -> tuple[float, float, float, float] | None:
        cells = [self._cell(row, side) for side in ("x1", "y1", "x2", "y2")]
        if not all(cells):
            return None
        try:
            x1, y1, x2, y2 = (float(cell) for cell in cells)
        except ValueError:
            raise LeftOut("box is not four numbers") from None
        if not (x1 < x2 and y1 < y2 and all(map(math.isfinite, (x1, y1, x2, y2)))):
            raise LeftOut("box is empty")
        return x1, y1, x2, y2


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","


def _header(path: Path) -> list[str]:
    if path.suffix.lower() != ".parquet":
        return next((row for _, row in csv_rows(path, delimiter=_delimiter(path)) if row), [])
    try:
        return list(pq.read_schema(path).names)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a Parquet file ({error}): write it again") from error


def _parse_columns(text: str, header: list[str]) -> dict[str, str]:
    """Parse `photo=path,feeling=emotion` to role -> column. Raises ConfigError."""
    own: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        column, _, role = (piece.strip() for piece in part.partition("="))
        if role not in _ROLES or column not in header:
            raise ConfigError(
                f"'{part}' in columns: expected NAME=ROLE with a column of the table ({', '.join(header)}) and a role "
                f"({', '.join(_ROLES)})"
            )
        own[role] = column
    return own


def _find_column(header: list[str], own: dict[str, str], role: str, names: tuple[str, ...]) -> str:
    """The column with a role; empty if there is none."""
    if role in own:
        return own[role]
    lower = {column.lower(): column for column in header if column not in own.values()}
    return next((lower[name] for name in names if name in lower), "")


def _unit_columns(header: list[str], scale: AuScale) -> dict[str, str]:
    """Column -> action unit. Raises DataError when two columns have the same unit."""
    unwanted = "_r" if scale == "occurrence" else "_c"
    units: dict[str, str] = {}
    for column in header:
        match = _UNIT.fullmatch(column.lower())
        if match is None or match[2] == unwanted:
            continue
        unit = action_unit_name(match[1])
        if unit in units.values():
            raise DataError(f"two columns hold {unit}, the second is '{column}': remove one")
        units[column] = unit
    return units


def _vote_columns(header: list[str]) -> dict[str, str]:
    """Column of votes -> its label."""
    votes: dict[str, str] = {}
    for column in header:
        try:
            votes[column] = parse_label(re.sub(r"^votes?[ _]", "", column.lower()))
        except LabelError:
            continue
    return votes


def _parquet_rows(path: Path) -> Iterator[tuple[str, Row]]:
    number = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield f"{path.name}, row {number}", {str(name): _text(value) for name, value in row.items()}


def _text(value: Any) -> str:
    """A cell as text: empty for null and NaN, whole numbers without a decimal point."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(int(value))
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

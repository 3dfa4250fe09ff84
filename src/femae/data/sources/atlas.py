"""Data sets in atlases: large pictures of equal square cells, row by row, and `labels.csv` with a row per cell.

`r, c = divmod(cell, columns)` is the row and column of a cell in its atlas.

- **LFW** with one weak expression label each: index, atlas, cell, name, emotion, person, annotator, split. The person
  is the group.
- **Rendered heads** with exact intensities of action units: index, atlas, cell, compound, one column per action unit
  (0..1), yaw, pitch, roll, split. A compound sets its two emotions; for a random mix of action units the emotions are
  unknown. Each head is a group. Columns are named by FACS with two exceptions: `AU11` raises the upper lip, which is
  AU10, and `AU10` pushes it up from inside (ARKit's mouthShrugUpper), which is not a unit of FACS and is ignored.
- **FER+** is in sources/fer2013.py.
"""

import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from femae.data.samples import AtlasCell, RawSample
from femae.data.sources.base import BLANK_LINE, WRONG_COLUMNS, LeftOut, Source, csv_rows, key_of, require
from femae.data.targets import label_targets, unknown_targets
from femae.errors import DataError, LabelError
from femae.labels import action_unit_name

__all__ = ["AtlasSource", "LfwSource", "Synth3dSource"]

_LABELS: Final = "labels.csv"
Row = dict[str, str]
_UNIT = re.compile(r"AU\d+")
_RENAMED = {"AU10": None, "AU11": "AU10"}  # column -> unit of FACS; None: ignored


@dataclass(frozen=True, kw_only=True, slots=True)
class AtlasLayout:
    """The layout of a data set's atlases."""

    file: str  # format of the file name of atlas n, such as `lfw_{:02d}.jpg`
    needs: Sequence[str]  # required columns of labels.csv, besides atlas and cell
    size: int = 96  # side of a cell in pixels
    columns: int = 24  # cells per row


class AtlasSource(Source[Row]):
    """Base of the readers of atlases: iterates over labels.csv; `_labelled` makes the sample of a row."""

    def __init__(self, folder: Path, *, name: str, layout: AtlasLayout, keep_unlabelled: bool = False) -> None:
        """Raises DataError when labels.csv or one of its columns is missing."""
        super().__init__(name=name, keep_unlabelled=keep_unlabelled)
        self._folder, self._layout = folder, layout
        self._labels = folder / _LABELS
        looked_for = [_LABELS, layout.file.format(0)]
        require(self._labels.is_file(), what=f"{folder} holds no atlases with labels", looked_for=looked_for)
        header = next((row for _, row in csv_rows(self._labels) if row), [])
        missing = [column for column in ("atlas", "cell", *layout.needs) if column not in header]
        if missing:
            raise DataError(f"{self._labels} lacks the columns {', '.join(missing)}")
        self._sizes: dict[Path, tuple[int, int] | None] = {}

    def _items(self) -> Iterator[tuple[str, Row]]:
        header: list[str] = []
        for number, row in csv_rows(self._labels):
            where = f"{_LABELS}, line {number}"
            if not row:
                self._leave_out(BLANK_LINE, where)
            elif not header:
                header = row
            elif len(row) != len(header):
                self._leave_out(WRONG_COLUMNS, where)
            else:
                yield where, dict(zip(header, row, strict=True))

    def _sample(self, item: Row) -> RawSample:
        try:
            atlas, cell = int(item["atlas"]), int(item["cell"])
        except ValueError:
            raise LeftOut("atlas or cell is not a number") from None
        return self._labelled(item, self._cell(atlas, cell), f"{atlas:02d}#{cell}")

    @abstractmethod
    def _labelled(self, row: Row, picture: AtlasCell, key: str) -> RawSample:
        """The sample of a row; `key` is unique for the cell. Raises LeftOut."""

    def _cell(self, atlas: int, cell: int) -> AtlasCell:
        path = self._folder / self._layout.file.format(atlas)
        if path not in self._sizes:
            self._sizes[path] = _size_of(path)
        size = self._sizes[path]
        if size is None:
            raise LeftOut("atlas is missing or is not a picture")
        row, column = divmod(cell, self._layout.columns)
        side = self._layout.size
        left, top = column * side, row * side
        if cell < 0 or left + side > size[0] or top + side > size[1]:
            raise LeftOut("cell is outside of its atlas")
        return AtlasCell(path=path, left=left, top=top, size=side)


def _size_of(path: Path) -> tuple[int, int] | None:
    try:
        with Image.open(path) as picture:
            return picture.size
    except (OSError, SyntaxError, ValueError):
        return None


class LfwSource(AtlasSource):
    """Reads the atlases of LFW."""

    def __init__(self, folder: Path, *, keep_unlabelled: bool = False, name: str = "lfw") -> None:
        """Raises DataError when labels.csv or a column is missing."""
        layout = AtlasLayout(file="lfw_{:02d}.jpg", needs=("name", "emotion", "person"))
        super().__init__(folder, name=name, layout=layout, keep_unlabelled=keep_unlabelled)

    def _labelled(self, row: dict[str, str], picture: AtlasCell, key: str) -> RawSample:
        try:
            label = label_targets(row["emotion"] or "unknown")
        except LabelError:
            raise LeftOut("label is not a known word") from None
        name = key_of(row["name"] or key)
        return RawSample(
            key=name,
            picture=picture,
            group=f"lfw/{key_of(row['person'] or name)}",
            split=row.get("split", ""),
            class_name=label.class_name,
            targets=label.targets,
            mask=label.mask,
            is_crop=True,
        )


class Synth3dSource(AtlasSource):
    """Reads the atlases of rendered heads."""

    def __init__(self, folder: Path, *, name: str = "synth3d") -> None:
        """Raises DataError when labels.csv or a column is missing."""
        super().__init__(folder, name=name, layout=AtlasLayout(file="syn_{:02d}.jpg", needs=("compound", "AU1")))

    def _labelled(self, row: dict[str, str], picture: AtlasCell, key: str) -> RawSample:
        try:
            label = label_targets(row["compound"]) if row["compound"] else unknown_targets()
            named = {name: _RENAMED.get(name, name) for name in row if _UNIT.fullmatch(name) and row[name]}
            units = {action_unit_name(unit): float(row[name]) for name, unit in named.items() if unit is not None}
        except LabelError:
            raise LeftOut("label is not a known word") from None
        except ValueError:
            raise LeftOut("action unit is not a number") from None
        if not all(0 <= value <= 1 for value in units.values()):
            raise LeftOut("action unit is not in 0..1")
        return RawSample(
            key=key,
            picture=picture,
            group=f"synth3d/{key}",
            split=row.get("split", ""),
            class_name=label.class_name,
            targets=label.targets,
            mask=label.mask,
            action_units=units,
            is_crop=True,
        )

"""Data sets kept in atlases: one large picture of equal square cells, row by row, and `labels.csv` with a row per cell.

`r, c = divmod(cell, columns)` is the row and column of a cell in its atlas.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from PIL import Image

from femae.data.samples import AtlasCell, RawSample
from femae.data.sources.base import LeftOut, Source, require
from femae.data.sources.files import BLANK_LINE, WRONG_COLUMNS, csv_rows
from femae.errors import DataError

__all__ = ["AtlasSource"]

_LABELS: Final = "labels.csv"
Row = dict[str, str]


class AtlasSource(Source[Row]):
    """Goes through labels.csv; `_labelled` makes the sample of a row."""

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        file: str,
        size: int,
        columns: int,
        needs: Sequence[str],
        keep_unlabelled: bool = False,
    ) -> None:
        """`file`: name of atlas n, as `lfw_{:02d}.jpg`; `size`: pixels of a cell; `columns`: cells side by side.

        Raises DataError when labels.csv or one of the columns `needs` is not there.
        """
        super().__init__(name=name, keep_unlabelled=keep_unlabelled)
        self._folder, self._file, self._size, self._columns = folder, file, size, columns
        self._labels = folder / _LABELS
        require(
            self._labels.is_file(), what=f"{folder} holds no atlases with labels", looked_for=[_LABELS, file.format(0)]
        )
        header = next((row for _, row in csv_rows(self._labels) if row), [])
        missing = [column for column in ("atlas", "cell", *needs) if column not in header]
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
        """The sample of a row. `key` is the default key. Raises LeftOut."""

    def _cell(self, atlas: int, cell: int) -> AtlasCell:
        path = self._folder / self._file.format(atlas)
        if path not in self._sizes:
            self._sizes[path] = _size_of(path)
        size = self._sizes[path]
        if size is None:
            raise LeftOut("atlas is missing or is not a picture")
        row, column = divmod(cell, self._columns)
        left, top = column * self._size, row * self._size
        if cell < 0 or left + self._size > size[0] or top + self._size > size[1]:
            raise LeftOut("cell is outside of its atlas")
        return AtlasCell(path=path, left=left, top=top, size=self._size)


def _size_of(path: Path) -> tuple[int, int] | None:
    try:
        with Image.open(path) as picture:
            return picture.size
    except (OSError, SyntaxError, ValueError):
        return None

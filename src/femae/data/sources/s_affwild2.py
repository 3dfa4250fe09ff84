"""s-Aff-Wild2: frames of Aff-Wild2 with valence, arousal, expression and twelve action units in one line.

    341/00001.jpg,valence,arousal,expression,AU1,...,AU26

The lists are texts or csvs whose names hold `train` or `val`; pictures lie below `cropped_aligned`, `images` or the
folder itself. Expression -1 and action unit -1 are unknown one by one; a line with neither is left out unless
`keep_unlabelled`. The film is the group, the same as in Aff-Wild2.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from femae.data.samples import RawSample
from femae.data.sources.affwild2 import action_unit_values, film_of
from femae.data.sources.base import LeftOut, Source, numbered_label, require
from femae.data.sources.files import BLANK_LINE, WRONG_COLUMNS, csv_rows, find_folders, key_of, listed, picture_file
from femae.labels import AFFWILD2_AUS, LABEL_ORDERS

__all__ = ["SAffWild2Source"]

_NUM_CELLS: Final = 4 + len(AFFWILD2_AUS)
_PICTURES: Final = ("cropped_aligned", "cropped_aligned_images", "images")
_SUFFIXES: Final = (".csv", ".txt")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    cells: list[str]
    split: str


class SAffWild2Source(Source[_Line]):
    """Reads all lists of a folder."""

    def __init__(self, folder: Path, *, keep_unlabelled: bool = False, name: str = "s-affwild2") -> None:
        """Raises DataError when there is no list."""
        super().__init__(name=name, keep_unlabelled=keep_unlabelled)
        places = [folder, *find_folders(folder, ["MTL_Challenge", "annotations", "labels"], depth=2, skip=_PICTURES)]
        files = [path for place in places for path in listed(place) if path.suffix.lower() in _SUFFIXES]
        lists = [(path, split) for path in files for split in ("train", "val") if split in path.name.lower()]
        self._lists = list(dict.fromkeys((path, split) for path, split in lists if _is_list(path)))
        require(
            self._lists,
            what=f"{folder} has no list of s-Aff-Wild2",
            looked_for=[f"*train*.txt, *val*.txt with {_NUM_CELLS} columns, 341/00001.jpg first"],
        )
        self._root = next(iter(find_folders(folder, _PICTURES, depth=2)), folder)

    def _items(self) -> Iterator[tuple[str, _Line]]:
        for path, split in self._lists:
            for number, row in csv_rows(path):
                where = f"{path.name}, line {number}"
                if not row:
                    self._leave_out(BLANK_LINE, where)
                elif len(row) != _NUM_CELLS:
                    if number > 1 or "/" in row[0]:  # the first line may be a header
                        self._leave_out(WRONG_COLUMNS, where)
                elif "/" in row[0]:
                    yield row[0], _Line(cells=row, split=split)
                elif number > 1:
                    self._leave_out("line without a picture", where)

    def _sample(self, item: _Line) -> RawSample:
        key = key_of(item.cells[0])
        label = numbered_label(item.cells[3], LABEL_ORDERS["affwild2"])
        units = action_unit_values(item.cells[4:], names=AFFWILD2_AUS)
        if not (label.mask.any() or units or self._keep_unlabelled):
            raise LeftOut("expression and every action unit are unknown (-1)")
        return RawSample(
            key=key,
            picture=picture_file(self._root / key),
            group=f"affwild2/{film_of(key.split('/')[0])}",
            split=item.split,
            class_name=label.class_name,
            targets=label.targets,
            mask=label.mask,
            action_units=units,
            is_crop=True,
        )


def _is_list(path: Path) -> bool:
    """Whether one of the first ten lines looks like one of the list."""
    first = islice(csv_rows(path), 10)
    return any(len(row) == _NUM_CELLS and "/" in row[0] for _, row in first)

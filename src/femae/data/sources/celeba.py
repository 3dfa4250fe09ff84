"""CelebA (Liu et al. 2015): 202,599 pictures of 10,177 people, `img_align_celeba/*.jpg`; paper, section 3.2.

No labels of expression: for pretraining. `identity_CelebA.txt` (the person, which becomes the group) and
`list_eval_partition.txt` (0 train, 1 val, 2 test) are used where they lie in the folder or one or two below it.
Without the first each picture is a group of its own.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from femae.data.samples import RawSample
from femae.data.sources.base import Source, require
from femae.data.sources.files import (
    BLANK_LINE,
    PICTURE_SUFFIXES,
    WRONG_COLUMNS,
    find_folders,
    key_of,
    listed,
    picture_file,
    text_lines,
)

__all__ = ["CelebASource"]

_SPLITS: Final = {"0": "train", "1": "val", "2": "test"}


class CelebASource(Source[Path]):
    """Reads the folder that holds `img_align_celeba`, or that folder itself."""

    def __init__(self, folder: Path, *, name: str = "celeba") -> None:
        """Raises DataError when `img_align_celeba` is not there."""
        super().__init__(name=name, keep_unlabelled=True)
        found = find_folders(folder, ["img_align_celeba"], depth=2)
        require(found, what=f"{folder} is not CelebA", looked_for=["img_align_celeba/*.jpg"])
        inner = found[0] / found[0].name  # archives that were unpacked into a folder of their name
        self._pictures = inner if inner.is_dir() else found[0]
        self._notes = [folder, folder.parent] if found[0] == folder else [folder]

    def _items(self) -> Iterator[tuple[str, Path]]:
        self._people = self._table("identity_CelebA.txt")
        self._splits = self._table("list_eval_partition.txt")
        seen = set()
        for path in listed(self._pictures):
            if path.suffix.lower() not in PICTURE_SUFFIXES:
                self._leave_out("file of another kind", path.name)
                continue
            seen.add(path.name)
            yield path.name, path
        for name in self._people.keys() | self._splits.keys():
            if name not in seen:
                self._leave_out("picture file is missing", name)

    def _table(self, name: str) -> dict[str, str]:
        """File name -> second column, of a text file with two columns; empty when there is none."""
        places = [place for root in self._notes for place in (root, *(c for c in listed(root) if c.is_dir()))]
        path = next((place / name for place in places if (place / name).is_file()), None)
        table: dict[str, str] = {}
        for number, line in text_lines(path) if path is not None else ():
            cells = line.replace(",", " ").split()
            if len(cells) == 2:
                table[cells[0]] = cells[1]
            else:
                self._leave_out(WRONG_COLUMNS if cells else BLANK_LINE, f"{name}, line {number}")
        return table

    def _sample(self, item: Path) -> RawSample:
        key = key_of(item.name)
        person = self._people.get(item.name)
        return RawSample(
            key=key,
            picture=picture_file(item),
            group=f"celeba/person-{person}" if person else f"celeba/{key}",
            split=_SPLITS.get(self._splits.get(item.name, ""), ""),
        )

"""RAF-DB (Li et al. 2017): photographs from the web, with seven basic and eleven compound classes; paper, 4.1.2.

    basic/EmoLabel/list_patition_label.txt       lines `train_00001.jpg 5`
    basic/Image/aligned/train_00001_aligned.jpg  or Image/original/train_00001.jpg
    compound/...                                 the same

A compound label sets its two emotions. The split is the first word of the file name. Subjects are unknown: each
picture is a group, and folds rely on near duplicates.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from femae.data.samples import RawSample
from femae.data.sources.base import (
    BLANK_LINE,
    WRONG_COLUMNS,
    Source,
    find_folders,
    key_of,
    numbered_label,
    picture_file,
    require,
    text_lines,
)
from femae.labels import LABEL_ORDERS

__all__ = ["RafDbSource"]

_LISTS: Final = ("list_patition_label.txt", "list_partition_label.txt")
_PARTS: Final = ("basic", "compound")
_SPLITS: Final = ("train", "val", "test")


class RafDbSource(Source[tuple[str, str]]):
    """Reads one part, from its folder or a parent of it."""

    def __init__(
        self,
        folder: Path,
        *,
        part: Literal["basic", "compound"],
        pictures: Literal["aligned", "original"] = "aligned",
        name: str | None = None,
    ) -> None:
        """`pictures`: face crops or whole photographs. Raises DataError when the list or the pictures are not found."""
        super().__init__(name=name or f"rafdb-{part}", keep_unlabelled=False)
        self._part, self._kind = part, pictures
        roots = find_folders(folder, [part], depth=2)
        roots = roots or [folder / part if folder.name.lower() in _PARTS else folder]
        candidates = [root / "EmoLabel" / name for root in roots for name in _LISTS]
        self._list = next((path for path in candidates if path.is_file()), None)
        require(
            self._list, what=f"{folder} holds no {part} part of RAF-DB", looked_for=[str(path) for path in candidates]
        )
        assert self._list is not None
        self._pictures = self._list.parent.parent / "Image" / pictures
        require(self._pictures.is_dir(), what="no pictures of RAF-DB", looked_for=[str(self._pictures)])

    def _items(self) -> Iterator[tuple[str, tuple[str, str]]]:
        assert self._list is not None
        for number, line in text_lines(self._list):
            cells = line.rsplit(maxsplit=1)
            if len(cells) == 2:
                yield cells[0], (cells[0], cells[1])
            else:
                self._leave_out(WRONG_COLUMNS if cells else BLANK_LINE, f"{self._list.name}, line {number}")

    def _sample(self, item: tuple[str, str]) -> RawSample:
        name, number = item
        key = key_of(name)
        label = numbered_label(number, LABEL_ORDERS[f"raf-db-{self._part}"])
        path = Path(key)
        file = f"{path.stem}_aligned{path.suffix}" if self._kind == "aligned" else key
        split = key.split("_")[0].lower()
        return RawSample(
            key=key,
            picture=picture_file(self._pictures / file),
            group=f"rafdb-{self._part}/{key}",
            split=split if split in _SPLITS else "",
            class_name=label.class_name,
            targets=label.targets,
            mask=label.mask,
            is_crop=self._kind == "aligned",
        )

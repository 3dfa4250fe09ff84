"""AffectNet (Mollahosseini et al. 2017): about a million pictures with one of eleven labels; paper, section 3.2.

Two layouts are read:

- **csv** of the first release: `training.csv`, `validation.csv` (with `automatic=True` also
  `automatically_annotated.csv`) with the columns subDirectory_filePath, face_x, face_y, face_width, face_height,
  facial_landmarks, expression, valence, arousal; without a header line they are assumed to be in this order. Pictures
  are whole photographs; the csv has the face box.
- **folders** of the later release: `{train_set,val_set}/images/<id>.jpg` with `annotations/<id>_exp.npy`. Pictures are
  face crops.

None, Uncertain and No-Face say nothing about the six emotions: they are left out, or with `keep_unlabelled` kept
without a label (except No-Face).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from femae.data.samples import PictureFile, RawSample
from femae.data.sources.base import (
    BLANK_LINE,
    PICTURE_SUFFIXES,
    WRONG_COLUMNS,
    LeftOut,
    Source,
    csv_rows,
    find_folders,
    key_of,
    listed,
    numbered_label,
    picture_file,
    require,
)
from femae.labels import LABEL_ORDERS

__all__ = ["AffectNetSource"]

_COLUMNS: Final = (
    *("subDirectory_filePath", "face_x", "face_y", "face_width", "face_height"),
    *("facial_landmarks", "expression", "valence", "arousal"),
)
_LISTS: Final = {"training.csv": "train", "validation.csv": "val"}
_AUTOMATIC: Final = {"automatically_annotated.csv": "train"}
_PARTS: Final = {"train_set": "train", "val_set": "val", "test_set": "test"}
_PICTURE_FOLDERS: Final = (
    *("Manually_Annotated_Images", "Automatically_Annotated_Images", "Manually_Annotated_compressed"),
    *("Manually_Annotated", "Automatically_Annotated", "images"),
)
_NO_FACE: Final = "no face"
_ORDER: Final = LABEL_ORDERS["affectnet"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    """One picture of either layout."""

    key: str
    split: str
    path: Path | None  # None: find it by its key in the picture folders
    expression: str | None  # None: read it from the file `annotation`
    annotation: Path | None = None
    box: tuple[str, str, str, str] | None = None  # x, y, width, height


class AffectNetSource(Source[_Entry]):
    """Reads the layout that `folder` has."""

    def __init__(
        self, folder: Path, *, automatic: bool = False, keep_unlabelled: bool = False, name: str = "affectnet"
    ) -> None:
        """`automatic`: include the pictures labelled by a network. Raises DataError when neither layout is found."""
        super().__init__(name=name, keep_unlabelled=keep_unlabelled)
        wanted = _LISTS | (_AUTOMATIC if automatic else {})
        folders = [folder, *(child for child in listed(folder) if child.is_dir())]
        self._lists = [(parent / name, split) for name, split in wanted.items() for parent in folders]
        self._lists = [(path, split) for path, split in self._lists if path.is_file()]
        self._parts = [(part, _PARTS[part.name.lower()]) for part in find_folders(folder, _PARTS, depth=1)]
        self._parts = [(part, split) for part, split in self._parts if (part / "images").is_dir()]
        require(
            self._lists or self._parts,
            what=f"{folder} is not in a known layout of AffectNet",
            looked_for=[*wanted, "train_set/images", "val_set/images"],
        )
        picture_roots = find_folders(folder, _PICTURE_FOLDERS, depth=2)
        nested = [child for root in picture_roots for child in listed(root) if child.name in _PICTURE_FOLDERS]
        self._roots = [folder, *picture_roots, *nested]

    def _items(self) -> Iterator[tuple[str, _Entry]]:
        for path, split in self._lists:
            for entry in self._from_list(path, split):
                yield entry.key, entry
        for part, split in self._parts:
            for entry in self._from_folders(part, split):
                yield entry.key, entry

    def _from_list(self, path: Path, split: str) -> Iterator[_Entry]:
        columns = {name: position for position, name in enumerate(_COLUMNS)}
        width = len(_COLUMNS)
        for number, row in csv_rows(path):
            where = f"{path.name}, line {number}"
            if "expression" in row and "subDirectory_filePath" in row:
                columns, width = {name: position for position, name in enumerate(row)}, len(row)
            elif not row:
                self._leave_out(BLANK_LINE, where)
            elif len(row) != width:
                self._leave_out(WRONG_COLUMNS, where)
            else:
                x, y, w, h = (row[columns[name]] if name in columns else "" for name in _COLUMNS[1:5])
                yield _Entry(
                    key=row[columns["subDirectory_filePath"]].replace("\\", "/"),
                    split=split,
                    path=None,
                    expression=row[columns["expression"]],
                    box=(x, y, w, h),
                )

    def _from_folders(self, part: Path, split: str) -> Iterator[_Entry]:
        annotations = {path.name[: -len("_exp.npy")]: path for path in self._annotations(part)}
        for path in listed(part / "images"):
            if path.suffix.lower() not in PICTURE_SUFFIXES:
                self._leave_out("file of another kind", f"{part.name}/images/{path.name}")
                continue
            yield _Entry(
                key=f"{part.name}/images/{path.name}",
                split=split,
                path=path,
                expression=None,
                annotation=annotations.pop(path.stem, None),
            )
        for stem in annotations:
            self._leave_out("picture file is missing", f"{part.name}/annotations/{stem}_exp.npy")

    def _annotations(self, part: Path) -> list[Path]:
        folder = part / "annotations"
        return [path for path in listed(folder) if path.name.endswith("_exp.npy")] if folder.is_dir() else []

    def _sample(self, item: _Entry) -> RawSample:
        key = key_of(item.key)
        label = numbered_label(self._expression(item), _ORDER)
        if label.class_name == _NO_FACE:
            raise LeftOut("the annotators saw no face")
        return RawSample(
            key=key,
            picture=self._find(key) if item.path is None else picture_file(item.path),
            group=f"affectnet/{key}",
            split=item.split,
            class_name=label.class_name,
            targets=label.targets,
            mask=label.mask,
            box_xyxy=_box(item.box) if item.box is not None else None,
            is_crop=item.path is not None,
        )

    def _expression(self, item: _Entry) -> str:
        if item.expression is not None:
            return item.expression
        if item.annotation is None:
            raise LeftOut("annotation file is missing")
        try:
            return str(np.load(item.annotation, allow_pickle=False).item())
        except (OSError, ValueError, EOFError):
            raise LeftOut("annotation file cannot be read") from None

    def _find(self, key: str) -> PictureFile:
        """Find a picture in the picture folders, trying the folder of the last one first. Raises LeftOut."""
        for root in self._roots:
            try:
                picture = picture_file(root / key)
            except LeftOut as problem:
                if str(problem) != "picture file is missing":
                    raise
                continue
            if root != self._roots[0]:
                self._roots.remove(root)
                self._roots.insert(0, root)
            return picture
        raise LeftOut("picture file is missing")


def _box(cells: tuple[str, str, str, str]) -> tuple[float, float, float, float] | None:
    """x, y, width, height -> corners; None if the csv has no valid box."""
    try:
        x, y, width, height = (float(cell) for cell in cells)
    except ValueError:
        return None
    return (x, y, x + width, y + height) if width > 0 and height > 0 and np.isfinite([x, y]).all() else None

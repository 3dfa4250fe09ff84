"""Data sets of faces without expression labels, for pretraining (paper, section 3.2).

- **CelebA** (Liu et al. 2015): 202,599 pictures of 10,177 people, `img_align_celeba/*.jpg`. `identity_CelebA.txt` (the
  person, which becomes the group) and `list_eval_partition.txt` (0 train, 1 val, 2 test) are used if they are in the
  folder or in one of its subfolders. Without the first each picture is a separate group.
- **CASIA-WebFace** (Yi et al. 2014): half a million pictures of 10,575 people, `<id>/*.jpg`. The person is the group.
- **IMDB-WIKI** (Rothe et al. 2015): half a million pictures of actors and persons of Wikipedia,
  `imdb_crop/00..99/*.jpg` with `imdb.mat`, `wiki_crop/` with `wiki.mat`. The .mat has the detection scores of the face
  and of a second face in the same photograph. By default a picture is kept if its face_score is at least 1.0 (the
  common choice; -inf and NaN mean that no face was detected) and there is no second face (second_face_score is NaN);
  `max_second_score` keeps pictures whose second face has a lower score. The group is the person's name, so that a
  person who occurs in both parts, or in two records, is one group.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from femae.data.samples import RawSample
from femae.data.sources.base import (
    BLANK_LINE,
    PICTURE_SUFFIXES,
    WRONG_COLUMNS,
    LeftOut,
    Source,
    find_folders,
    key_of,
    listed,
    picture_file,
    require,
    text_lines,
)
from femae.errors import DataError, MissingDependencyError

__all__ = ["CasiaWebFaceSource", "CelebASource", "ImdbWikiSource"]

_SPLITS: Final = {"0": "train", "1": "val", "2": "test"}
_FIELDS: Final = ("full_path", "face_score", "second_face_score")


class CelebASource(Source[Path]):
    """Reads a folder with `img_align_celeba`, or that folder itself."""

    def __init__(self, folder: Path, *, name: str = "celeba") -> None:
        """Raises DataError when `img_align_celeba` is not found."""
        super().__init__(name=name, keep_unlabelled=True)
        found = find_folders(folder, ["img_align_celeba"], depth=2)
        require(found, what=f"{folder} is not CelebA", looked_for=["img_align_celeba/*.jpg"])
        inner = found[0] / found[0].name  # if the archive was unpacked into a folder of its name
        self._pictures = inner if inner.is_dir() else found[0]
        self._list_roots = [folder, folder.parent] if found[0] == folder else [folder]

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
        """File name -> second column of a text file with two columns; empty if there is no such file."""
        folders = [parent for root in self._list_roots for parent in (root, *(c for c in listed(root) if c.is_dir()))]
        path = next((parent / name for parent in folders if (parent / name).is_file()), None)
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


class CasiaWebFaceSource(Source[Path]):
    """Reads a folder with one folder per person, or its parent."""

    def __init__(self, folder: Path, *, name: str = "casia-webface") -> None:
        """Raises DataError when there are no folders of persons."""
        super().__init__(name=name, keep_unlabelled=True)
        inner = [child for child in listed(folder) if child.is_dir()]
        only = inner[0] if len(inner) == 1 else None
        if only is not None and any(child.is_dir() for child in listed(only)):
            folder = only
        self._folder = folder
        self._people = [child for child in listed(folder) if child.is_dir()]
        require(self._people, what=f"{folder} is not CASIA-WebFace", looked_for=["a folder per person, <id>/*.jpg"])

    def _items(self) -> Iterator[tuple[str, Path]]:
        for person in self._people:
            for path in listed(person):
                name = f"{person.name}/{path.name}"
                if path.suffix.lower() in PICTURE_SUFFIXES:
                    yield name, path
                else:
                    self._leave_out("file of another kind", name)

    def _sample(self, item: Path) -> RawSample:
        key = key_of(item.relative_to(self._folder))
        return RawSample(key=key, picture=picture_file(item), group=f"casia-webface/{key.split('/')[0]}")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Record:
    path: str
    name: str
    face_score: float
    second_score: float


class ImdbWikiSource(Source[_Record]):
    """Reads one part, `imdb` or `wiki`."""

    def __init__(
        self,
        folder: Path,
        *,
        part: Literal["imdb", "wiki"],
        min_score: float = 1.0,
        max_second_score: float | None = None,
        name: str | None = None,
    ) -> None:
        """`folder`: with `<part>.mat`, or with a folder that has it. Raises DataError when it is not found."""
        super().__init__(name=name or part, keep_unlabelled=True)
        self._min_score, self._max_second = min_score, max_second_score
        folders = [folder, *(child for child in listed(folder) if child.is_dir())]
        table = next((parent / f"{part}.mat" for parent in folders if (parent / f"{part}.mat").is_file()), None)
        require(table, what=f"{folder} holds no part '{part}' of IMDB-WIKI", looked_for=[f"{part}.mat"])
        assert table is not None
        self._table, self._part = table, part
        crops = table.parent / f"{part}_crop"
        beside = folder / f"{part}_crop"
        self._root = next((parent for parent in (crops, beside) if parent.is_dir()), table.parent)

    def _items(self) -> Iterator[tuple[str, _Record]]:
        fields = _load(self._table, self._part)
        for position in range(len(fields["full_path"])):
            record = _Record(
                path=_text(fields["full_path"][position]),
                name=_text(fields["name"][position]) if "name" in fields else "",
                face_score=_number(fields["face_score"][position]),
                second_score=_number(fields["second_face_score"][position]),
            )
            yield record.path or f"record {position + 1}", record

    def _sample(self, item: _Record) -> RawSample:
        if not item.path:
            raise LeftOut("record without a path")
        if not math.isfinite(item.face_score):
            raise LeftOut("no face by the data set's own detector (face_score is not finite)")
        if item.face_score < self._min_score:
            raise LeftOut(f"face_score under {self._min_score:g}")
        if not math.isnan(item.second_score) and (self._max_second is None or item.second_score >= self._max_second):
            raise LeftOut("a second face in the photograph")
        key = key_of(item.path)
        person = " ".join(item.name.split()).casefold() or Path(key).name.split("_")[0]
        return RawSample(key=key, picture=picture_file(self._root / key), group=f"imdb-wiki/{person}")


def _load(path: Path, part: str) -> dict[str, Any]:
    """The fields of a .mat file as flat arrays of equal length. Raises DataError when it is damaged or incomplete."""
    try:
        import scipy.io
    except ImportError as error:
        raise MissingDependencyError("the .mat files of IMDB-WIKI need scipy: pip install 'femae[data]'") from error
    matlab: Any = scipy.io  # has no type hints
    try:
        content = matlab.loadmat(path)
        record = content[part].ravel()[0]
        fields = {name: record[name].ravel() for name in record.dtype.names}
    except NotImplementedError as error:
        raise DataError(f"{path} is in MATLAB's format 7.3: save it again with `save -v7`") from error
    except Exception as error:  # SciPy raises many types for damaged files, even Exception
        raise DataError(f"{path} is damaged or holds no struct '{part}' ({error}): download it again") from error
    missing = [name for name in _FIELDS if name not in fields]
    if missing:
        raise DataError(f"{path} lacks the fields {', '.join(missing)}: download it again")
    lengths = {name: len(fields[name]) for name in (*_FIELDS, "name") if name in fields}
    if len(set(lengths.values())) > 1:
        listing = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(f"{path} is damaged: its fields differ in length ({listing}); download it again")
    return fields


def _text(cell: Any) -> str:
    """The text of a cell, which MATLAB wraps in an array; empty if there is none."""
    values = np.asarray(cell).ravel()
    return str(values[0]).strip() if values.size else ""


def _number(cell: Any) -> float:
    values = np.asarray(cell).ravel()
    try:
        return float(values[0]) if values.size else math.nan
    except (TypeError, ValueError):
        return math.nan

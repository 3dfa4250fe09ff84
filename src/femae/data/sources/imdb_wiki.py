"""IMDB-WIKI (Rothe et al. 2015): half a million pictures of actors and persons of Wikipedia; paper, section 3.2.

`imdb_crop/00..99/*.jpg` with `imdb.mat`, `wiki_crop/` with `wiki.mat`. No labels of expression: for pretraining. The
.mat holds the score of the detector that made the crops and that of a second face in the same photograph. By default
a picture is kept if

- its face_score is at least 1.0 (the value in common use; the detector found nothing where it is -inf or NaN), and
- there is no second face (second_face_score is NaN). `max_second_score` keeps those whose second face scores less.

The group is the person's name, so that one person in both parts, or in two records, is one group.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from femae.data.samples import RawSample
from femae.data.sources.base import LeftOut, Source, require
from femae.data.sources.files import key_of, listed, picture_file
from femae.errors import DataError, MissingDependencyError

__all__ = ["ImdbWikiSource"]

_FIELDS: Final = ("full_path", "face_score", "second_face_score")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Record:
    path: str
    name: str
    face_score: float
    second_score: float


class ImdbWikiSource(Source[_Record]):
    """Reads one part, imdb or wiki."""

    def __init__(
        self,
        folder: Path,
        *,
        part: Literal["imdb", "wiki"],
        min_score: float = 1.0,
        max_second_score: float | None = None,
        name: str | None = None,
    ) -> None:
        """`folder` holds `<part>.mat` or a folder with it. Raises DataError when it is not there or has no scores."""
        super().__init__(name=name or part, keep_unlabelled=True)
        self._min_score, self._max_second = min_score, max_second_score
        places = [folder, *(child for child in listed(folder) if child.is_dir())]
        table = next((place / f"{part}.mat" for place in places if (place / f"{part}.mat").is_file()), None)
        require(table, what=f"{folder} holds no part '{part}' of IMDB-WIKI", looked_for=[f"{part}.mat"])
        assert table is not None
        self._table, self._part = table, part
        crops = table.parent / f"{part}_crop"
        beside = folder / f"{part}_crop"
        self._root = next((place for place in (crops, beside) if place.is_dir()), table.parent)

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
    """Fields of the .mat as flat arrays of one length."""
    try:
        import scipy.io
    except ImportError as error:
        raise MissingDependencyError("the .mat files of IMDB-WIKI need scipy: pip install 'femae[data]'") from error
    matlab: Any = scipy.io  # comes without types
    try:
        content = matlab.loadmat(path)
        record = content[part].ravel()[0]
        fields = {name: record[name].ravel() for name in record.dtype.names}
    except NotImplementedError as error:
        raise DataError(f"{path} is of MATLAB's version 7.3: save it anew with `save -v7`") from error
    except Exception as error:  # SciPy raises what it likes on a damaged file, bare Exceptions among them
        raise DataError(f"{path} is damaged or holds no struct '{part}' ({error}): download it again") from error
    missing = [name for name in _FIELDS if name not in fields]
    if missing:
        raise DataError(f"{path} lacks the fields {', '.join(missing)}: download it again")
    lengths = {name: len(fields[name]) for name in (*_FIELDS, "name") if name in fields}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(f"{path} is damaged: its fields differ in length ({said}); download it again")
    return fields


def _text(cell: Any) -> str:
    """A cell of text, which MATLAB wraps in an array; empty where there is none."""
    values = np.asarray(cell).ravel()
    return str(values[0]).strip() if values.size else ""


def _number(cell: Any) -> float:
    values = np.asarray(cell).ravel()
    try:
        return float(values[0]) if values.size else math.nan
    except (TypeError, ValueError):
        return math.nan

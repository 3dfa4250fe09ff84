"""FER2013 (Goodfellow et al. 2013) with the votes of FER+ (Barsoum et al. 2016): 48 x 48 gray faces; three layouts.

- **csv**: `fer2013.csv` (emotion, pixels, Usage) and, if there are votes, `fer2013new.csv` (Usage, Image name, ten vote
  columns). The rows of both files are matched by their order (the number in `fer0000059.png` is not the row); both must
  have the same number of rows, and matching rows the same Usage. Without votes the `emotion` column is the label.
- **pictures**: `FER2013Train`, `FER2013Valid`, `FER2013Test` with `ferNNNNNNN.png`, joined **by name** to
  `fer2013new.csv` or to the `label.csv` in each folder.
- **atlases** (`FerPlusSource`): large pictures of equal cells, row by row; `labels.csv` has each picture's atlas and
  cell, its split and its ten vote counts. Training is `train`; PublicTest is `test`, since results on this version are
  reported on it. Pictures of one `dup_group` are exact copies and share a group; those of PublicTest that are in
  Training too are left out.

In the first two, PublicTest is `val` and PrivateTest `test`, as in FER+. The ten votes become shares
(targets.vote_targets); a picture that half of the annotators do not consider a face is left out. Subjects are unknown:
each picture is a group, and folds rely on copies and near duplicates, which are frequent here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np

from femae.data.samples import AtlasCell, InlinePicture, PictureFile, RawSample
from femae.data.sources.atlas import AtlasLayout, AtlasSource
from femae.data.sources.base import (
    BLANK_LINE,
    WRONG_COLUMNS,
    LeftOut,
    Source,
    csv_rows,
    key_of,
    listed,
    numbered_label,
    picture_file,
    require,
)
from femae.data.targets import EmotionLabel, vote_targets
from femae.errors import DataError
from femae.labels import FERPLUS_VOTES, LABEL_ORDERS

__all__ = ["Fer2013Source", "FerPlusSource"]

_SIZE: Final = 48
_PIXELS: Final = ("fer2013.csv", "icml_face_data.csv")
_VOTES: Final = "fer2013new.csv"
_PARTS: Final = {"fer2013train": "train", "fer2013valid": "val", "fer2013test": "test"}
_USAGES: Final = {"training": "train", "publictest": "val", "privatetest": "test"}
_SPLITS = {"Training": "train", "PublicTest": "test"}
_COLUMNS = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class _Face:
    name: str  # of the picture, or row-N
    split: str
    pixels: str | None  # None: in the file `path`
    path: Path | None
    emotion: str | None  # label as written
    votes: list[str] | None  # as written
    votes_split: str  # split in the votes' file


class Fer2013Source(Source[_Face]):
    """Reads the csv or the pictures layout, whichever `folder` has."""

    def __init__(self, folder: Path, *, keep_unlabelled: bool = False, name: str = "fer2013") -> None:
        """Raises DataError when neither layout is found, or when the two csvs do not match."""
        super().__init__(name=name, keep_unlabelled=keep_unlabelled)
        folders = [folder, *(child for child in listed(folder) if child.is_dir())]
        self._votes = next((parent / _VOTES for parent in folders if (parent / _VOTES).is_file()), None)
        self._pixels = next((p / file for file in _PIXELS for p in folders if (p / file).is_file()), None)
        inner = chain(folders, *(listed(parent) for parent in folders[1:]))
        parts = (path for path in inner if path.name.lower() in _PARTS and path.is_dir())
        self._parts = [] if self._pixels is not None else list(dict.fromkeys(parts))
        require(
            self._pixels or self._parts,
            what=f"{folder} is not in a known layout of FER2013",
            looked_for=[*_PIXELS, "FER2013Train/*.png"],
        )
        if self._pixels is not None and self._votes is not None:
            self._check_rows(self._pixels, self._votes)

    def _check_rows(self, pixels: Path, votes: Path) -> None:
        first, second = (sum(bool(row) for _, row in csv_rows(path)) for path in (pixels, votes))
        if first != second:
            raise DataError(
                f"{pixels.name} has {first} rows and {votes.name} {second}: they belong together row by row, so one of "
                "them was changed; download both again"
            )

    def _items(self) -> Iterator[tuple[str, _Face]]:
        faces = self._from_pixels(self._pixels) if self._pixels is not None else self._from_parts()
        for face in faces:
            yield face.name, face

    def _from_pixels(self, path: Path) -> Iterator[_Face]:
        votes = iter([row for _, row in csv_rows(self._votes) if row][1:]) if self._votes is not None else None
        columns: dict[str, int] = {}
        for number, row in csv_rows(path):
            if not row:
                self._leave_out(BLANK_LINE, f"{path.name}, line {number}")
                continue
            if not columns:
                columns = _columns(row, path)
                continue
            ballot = next(votes) if votes is not None else None
            if len(row) != len(columns) or (ballot is not None and len(ballot) != 2 + len(FERPLUS_VOTES)):
                self._leave_out(WRONG_COLUMNS, f"{path.name}, line {number}")
                continue
            usage = row[columns["usage"]].lower()
            yield _Face(
                name=(ballot[1] if ballot else "") or f"row-{number - 2:05d}",
                split=_USAGES.get(usage, usage),
                pixels=row[columns["pixels"]],
                path=None,
                emotion=row[columns["emotion"]],
                votes=ballot[2:] if ballot else None,
                votes_split=_USAGES.get(ballot[0].lower(), ballot[0]) if ballot else "",
            )

    def _from_parts(self) -> Iterator[_Face]:
        shared = self._ballots(self._votes, name_column=1) if self._votes is not None else {}
        for part in self._parts:
            own = part / "label.csv"
            ballots = self._ballots(own, name_column=0) if own.is_file() else dict(shared)
            for path in listed(part):
                if path.suffix.lower() != ".png":
                    if path != own:
                        self._leave_out("file of another kind", path.name)
                    continue
                yield _Face(
                    name=path.name,
                    split=_PARTS[part.name.lower()],
                    pixels=None,
                    path=path,
                    emotion=None,
                    votes=ballots.pop(path.name, None),
                    votes_split=_PARTS[part.name.lower()],
                )
            for name in ballots if own.is_file() else ():
                self._leave_out("picture file is missing", name)

    def _ballots(self, path: Path, *, name_column: int) -> dict[str, list[str]]:
        """Picture name -> ten votes, as written."""
        ballots: dict[str, list[str]] = {}
        for number, row in csv_rows(path):
            if len(row) != 2 + len(FERPLUS_VOTES):
                self._leave_out(WRONG_COLUMNS if row else BLANK_LINE, f"{path.name}, line {number}")
            elif row[name_column].lower().endswith(".png"):
                ballots[row[name_column]] = row[2:]
        return ballots

    def _sample(self, item: _Face) -> RawSample:
        key = key_of(item.name)
        if item.votes is not None:
            if item.votes_split != item.split:
                raise LeftOut("Usage differs between the pixels' row and the votes' row")
            label = _votes_label(item.votes)
        elif item.emotion is not None:
            label = numbered_label(item.emotion, LABEL_ORDERS["fer2013"])
        else:
            raise LeftOut("no votes for this picture name")
        return RawSample(
            key=key,
            picture=_inline(item.pixels) if item.path is None else picture_file(item.path),
            group=f"fer2013/{key}",
            split=item.split,
            class_name=label.class_name,
            targets=label.targets,
            mask=label.mask,
            is_crop=True,
        )


def _votes_label(cells: list[str]) -> EmotionLabel:
    """Targets of the ten votes of FER+, as written. Raises LeftOut."""
    try:
        votes = [int(cell) for cell in cells]
    except ValueError:
        raise LeftOut("votes are not numbers") from None
    if min(votes) < 0 or sum(votes) == 0:
        raise LeftOut("votes are negative or all 0")
    if 2 * votes[FERPLUS_VOTES.index("NF")] >= sum(votes):
        raise LeftOut("half of the annotators see no face")
    return vote_targets(dict(zip(FERPLUS_VOTES, votes, strict=True)))


def _columns(header: list[str], path: Path) -> dict[str, int]:
    columns = {name.lower(): position for position, name in enumerate(header)}
    missing = [name for name in ("emotion", "pixels", "usage") if name not in columns]
    if missing:
        raise DataError(f"{path} lacks the columns {', '.join(missing)}: its first line should name them")
    return columns


def _inline(text: str | None) -> PictureFile | InlinePicture:
    try:
        pixels = np.array((text or "").split(), np.int64)
    except ValueError:
        raise LeftOut("pixels are not numbers") from None
    if pixels.size != _SIZE**2:
        raise LeftOut(f"not {_SIZE} x {_SIZE} pixels")
    if pixels.min() < 0 or pixels.max() > 255:
        raise LeftOut("a pixel is not in 0..255")
    return InlinePicture(pixels=pixels.astype(np.uint8).tobytes(), height=_SIZE, width=_SIZE)


class FerPlusSource(AtlasSource):
    """Reads the atlases of FER+."""

    def __init__(self, folder: Path, *, keep_unlabelled: bool = False, name: str = "ferplus") -> None:
        """Raises DataError when labels.csv or a column is missing."""
        needs = ("name", "split", *FERPLUS_VOTES)
        layout = AtlasLayout(file="atlas_{:02d}.png", needs=needs, size=_SIZE, columns=_COLUMNS)
        super().__init__(folder, name=name, layout=layout, keep_unlabelled=keep_unlabelled)

    def _labelled(self, row: dict[str, str], picture: AtlasCell, key: str) -> RawSample:
        split = _SPLITS.get(row["split"], "")
        if row.get("dup_in_training", "") == "1":
            raise LeftOut("a test picture that stands in Training too")
        label = _votes_label([row[name] for name in FERPLUS_VOTES])
        name = key_of(row["name"] or key)
        copies = row.get("dup_group", "")
        return RawSample(
            key=name,
            picture=picture,
            group=f"fer2013/copies-{copies}" if copies else f"fer2013/{name}",
            split=split,
            class_name=label.class_name,
            targets=label.targets,
            mask=label.mask,
            is_crop=True,
        )

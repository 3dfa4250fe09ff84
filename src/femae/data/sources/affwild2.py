"""Aff-Wild2 (Kollias et al. 2019): films with action units or expressions per frame; paper, sections 3.3 and 4.1.3.

    AU_Recognition_Challenge/{Train_Set,Validation_Set}/<film>[_left|_right].txt     older: AU_Set/{Training_Set,...}
    EXPR_Recognition_Challenge/...                                                   older: EXPR_Set
    cropped_aligned/<film>[_left|_right]/00001.jpg

Line 1 of a text file is a header, line n + 1 is frame n. -1 is unknown. A frame without a jpg has no face. `_left` and
`_right` are two persons of one film: the film is the group. The number and names of the action units are read from
the header (the first challenges had eight), by default the twelve of the third and later ones.
Expression 7 is Other, which says nothing about the six emotions: left out unless `keep_unlabelled`.

**s-Aff-Wild2** has valence, arousal, expression and the twelve action units of a frame in one line:

    341/00001.jpg,valence,arousal,expression,AU1,...,AU26

The lists are text or csv files with `train` or `val` in their names; pictures are in `cropped_aligned`, `images` or the
folder itself. Expression and action units may each be unknown (-1); a line without any is left out unless
`keep_unlabelled`. The film is the group, as in Aff-Wild2.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Literal

import numpy as np

from femae.data.samples import RawSample
from femae.data.sources.base import (
    BLANK_LINE,
    WRONG_COLUMNS,
    LeftOut,
    Source,
    check_every,
    csv_rows,
    find_folders,
    key_of,
    listed,
    numbered_label,
    numbered_pictures,
    picture_file,
    require,
    text_lines,
)
from femae.data.targets import EmotionLabel, unknown_targets
from femae.errors import LabelError
from femae.labels import AFFWILD2_AUS, AFFWILD2_OLD_AUS, LABEL_ORDERS, action_unit_name

__all__ = ["AffWild2Source", "SAffWild2Source"]

_TRACKS: Final = {
    "au": ("AU_Recognition_Challenge", "AU_Detection_Challenge", "AU_Set"),
    "expr": ("EXPR_Recognition_Challenge", "EXPR_Classification_Challenge", "EXPR_Set"),
}
_PARTS: Final = {"train_set": "train", "training_set": "train", "validation_set": "val", "test_set": "test"}
_CROPS: Final = ("cropped_aligned", "cropped_aligned_images", "cropped_aligned_new_50_vids")
_ORDER: Final = LABEL_ORDERS["affwild2"]
_NUM_CELLS: Final = 4 + len(AFFWILD2_AUS)
_PICTURES: Final = ("cropped_aligned", "cropped_aligned_images", "images")
_SUFFIXES: Final = (".csv", ".txt")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Frame:
    person: str  # film, with _left or _right
    number: int  # from 1
    split: str
    line: str  # label as written
    units: tuple[str, ...]  # names of the action units of `line`
    picture: Path | None
    last: int  # number of the last jpg


class AffWild2Source(Source[_Frame]):
    """Reads the labels of one track, `au` or `expr`."""

    def __init__(
        self,
        folder: Path,
        *,
        track: Literal["au", "expr"],
        every: int = 1,
        keep_unlabelled: bool = False,
        name: str | None = None,
    ) -> None:
        """`every`: take frames 1, 1 + every, ... Raises DataError when labels or cropped frames are not found."""
        super().__init__(name=name or f"affwild2-{track}", keep_unlabelled=keep_unlabelled)
        self._track, self._every = track, check_every(every)
        tracks = find_folders(folder, _TRACKS[track], skip=_CROPS)
        require(tracks, what=f"{folder} has no {track.upper()} labels of Aff-Wild2", looked_for=list(_TRACKS[track]))
        self._parts = [(part, _PARTS[part.name.lower()]) for part in find_folders(tracks[0], _PARTS, depth=1)]
        require(self._parts, what=f"{tracks[0]} has no labels", looked_for=["Train_Set", "Training_Set"])
        crops = find_folders(folder, _CROPS)
        require(crops, what=f"{folder} has no frames of Aff-Wild2", looked_for=[f"{_CROPS[0]}/<film>/00001.jpg"])
        self._folders = {child.name: child for root in reversed(crops) for child in listed(root) if child.is_dir()}

    def _items(self) -> Iterator[tuple[str, _Frame]]:
        for part, split in self._parts:
            for path in listed(part):
                if path.suffix.lower() != ".txt":
                    self._leave_out("file of another kind", f"{part.name}/{path.name}")
                    continue
                for frame in self._frames(path, split):
                    yield f"{frame.person}/{frame.number:05d}.jpg", frame

    def _frames(self, path: Path, split: str) -> Iterator[_Frame]:
        lines = [line for _, line in text_lines(path)]
        units, labels = self._units(lines[0] if lines else ""), lines[1:]
        if path.stem not in self._folders:
            self._leave_out("no folder of cropped frames for this film", path.stem, count=max(1, len(labels)))
            return
        pictures = numbered_pictures(self._folders[path.stem])
        last = max(pictures, default=0)
        if last > len(labels):
            beyond = sum(number > len(labels) for number in pictures)
            self._leave_out("frame beyond the last label", f"{path.stem}/{last:05d}.jpg", count=beyond)
        skipped = 0
        for number, line in enumerate(labels, 1):
            if (number - 1) % self._every:
                skipped += 1
                continue
            yield _Frame(
                person=path.stem,
                number=number,
                split=split,
                line=line,
                units=units,
                picture=pictures.get(number),
                last=last,
            )
        if skipped:
            self._leave_out(f"frame passed over (every {self._every})", path.stem, count=skipped)

    def _units(self, header: str) -> tuple[str, ...]:
        """Names of the action units in the header; empty for expressions."""
        if self._track == "expr":
            return ()
        cells = [cell for cell in header.replace(",", " ").split() if cell]
        try:
            return tuple(action_unit_name(cell) for cell in cells) or AFFWILD2_AUS
        except LabelError:
            return AFFWILD2_OLD_AUS if len(cells) == len(AFFWILD2_OLD_AUS) else AFFWILD2_AUS

    def _sample(self, item: _Frame) -> RawSample:
        if not item.line:
            raise LeftOut(BLANK_LINE)
        if item.picture is None:
            beyond = item.number > item.last
            raise LeftOut("label beyond the last frame" if beyond else "no face in the frame (its jpg is missing)")
        label: EmotionLabel = unknown_targets()
        units: dict[str, float] = {}
        if self._track == "expr":
            label = numbered_label(item.line, _ORDER)
        else:
            units = _action_unit_values(item.line.split(","), names=item.units)
            if not units and not self._keep_unlabelled:
                raise LeftOut("every action unit is unknown (-1)")
        return RawSample(
            key=key_of(f"{item.person}/{item.number:05d}.jpg"),
            picture=picture_file(item.picture),
            group=f"affwild2/{_film_of(item.person)}",
            split=item.split,
            class_name=label.class_name,
            targets=label.targets,
            mask=label.mask,
            action_units=units,
            is_crop=True,
        )


def _film_of(person: str) -> str:
    """The film of a person: the name without _left or _right."""
    return person.removesuffix("_left").removesuffix("_right")


def _action_unit_values(cells: list[str], *, names: tuple[str, ...]) -> dict[str, float]:
    """The known action units, 0 or 1, by name (-1 is unknown). Raises LeftOut."""
    if len(cells) != len(names):
        raise LeftOut("wrong number of action units")
    try:
        values = np.array([float(cell) for cell in cells])
    except ValueError:
        raise LeftOut("label is not a number") from None
    if not np.isin(values, (-1, 0, 1)).all():
        raise LeftOut("action unit is not 0, 1 or -1")
    return {name: float(value) for name, value in zip(names, values, strict=True) if value >= 0}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    cells: list[str]
    split: str


class SAffWild2Source(Source[_Line]):
    """Reads all lists of a folder of s-Aff-Wild2."""

    def __init__(self, folder: Path, *, keep_unlabelled: bool = False, name: str = "s-affwild2") -> None:
        """Raises DataError when no list is found."""
        super().__init__(name=name, keep_unlabelled=keep_unlabelled)
        folders = [folder, *find_folders(folder, ["MTL_Challenge", "annotations", "labels"], depth=2, skip=_PICTURES)]
        files = [path for parent in folders for path in listed(parent) if path.suffix.lower() in _SUFFIXES]
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
        units = _action_unit_values(item.cells[4:], names=AFFWILD2_AUS)
        if not (label.mask.any() or units or self._keep_unlabelled):
            raise LeftOut("expression and every action unit are unknown (-1)")
        return RawSample(
            key=key,
            picture=picture_file(self._root / key),
            group=f"affwild2/{_film_of(key.split('/')[0])}",
            split=item.split,
            class_name=label.class_name,
            targets=label.targets,
            mask=label.mask,
            action_units=units,
            is_crop=True,
        )


def _is_list(path: Path) -> bool:
    """Whether one of the first ten lines has the format of a list."""
    first = islice(csv_rows(path), 10)
    return any(len(row) == _NUM_CELLS and "/" in row[0] for _, row in first)

"""Aff-Wild2 (Kollias et al. 2019): films with action units or expressions per frame; paper, sections 3.3 and 4.1.3.

    AU_Recognition_Challenge/{Train_Set,Validation_Set}/<film>[_left|_right].txt     older: AU_Set/{Training_Set,...}
    EXPR_Recognition_Challenge/...                                                   older: EXPR_Set
    cropped_aligned/<film>[_left|_right]/00001.jpg

Line 1 of a text is a header, line n + 1 is frame n. -1 is unknown. A frame without a jpg has no face. `_left` and
`_right` are two persons of one film: the film is the group. The number and names of the action units are taken from
the header (the first challenges had eight), by default the twelve of the third and later ones.
Expression 7 is Other, which says nothing of the six emotions: left out unless `keep_unlabelled`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from femae.data.samples import RawSample
from femae.data.sources.base import LeftOut, Source, check_every, numbered_label, require
from femae.data.sources.files import (
    BLANK_LINE,
    find_folders,
    key_of,
    listed,
    numbered_pictures,
    picture_file,
    text_lines,
)
from femae.data.targets import EmotionLabel, unknown_targets
from femae.errors import LabelError
from femae.labels import AFFWILD2_AUS, AFFWILD2_OLD_AUS, LABEL_ORDERS, action_unit_name

__all__ = ["AffWild2Source", "action_unit_values", "film_of"]

_TRACKS: Final = {
    "au": ("AU_Recognition_Challenge", "AU_Detection_Challenge", "AU_Set"),
    "expr": ("EXPR_Recognition_Challenge", "EXPR_Classification_Challenge", "EXPR_Set"),
}
_PARTS: Final = {"train_set": "train", "training_set": "train", "validation_set": "val", "test_set": "test"}
_CROPS: Final = ("cropped_aligned", "cropped_aligned_images", "cropped_aligned_new_50_vids")
_ORDER: Final = LABEL_ORDERS["affwild2"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Frame:
    person: str  # film, with _left or _right
    number: int  # from 1
    split: str
    line: str
    units: tuple[str, ...]
    picture: Path | None
    last: int  # number of the last jpg


class AffWild2Source(Source[_Frame]):
    """Reads one track: `au` or `expr`."""

    def __init__(
        self,
        folder: Path,
        *,
        track: Literal["au", "expr"],
        every: int = 1,
        keep_unlabelled: bool = False,
        name: str | None = None,
    ) -> None:
        """`every`: take frames 1, 1 + every, ... Raises DataError when labels or cropped frames are not there."""
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
        """Action units as the header names them; empty for expressions."""
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
            units = action_unit_values(item.line.split(","), names=item.units)
            if not units and not self._keep_unlabelled:
                raise LeftOut("every action unit is unknown (-1)")
        return RawSample(
            key=key_of(f"{item.person}/{item.number:05d}.jpg"),
            picture=picture_file(item.picture),
            group=f"affwild2/{film_of(item.person)}",
            split=item.split,
            class_name=label.class_name,
            targets=label.targets,
            mask=label.mask,
            action_units=units,
            is_crop=True,
        )


def film_of(person: str) -> str:
    """The source film of one of its persons: without _left or _right."""
    return person.removesuffix("_left").removesuffix("_right")


def action_unit_values(cells: list[str], *, names: tuple[str, ...]) -> dict[str, float]:
    """0 and 1 of the action units that are known; -1 is not. Raises LeftOut."""
    if len(cells) != len(names):
        raise LeftOut("wrong number of action units")
    try:
        values = np.array([float(cell) for cell in cells])
    except ValueError:
        raise LeftOut("label is not a number") from None
    if not np.isin(values, (-1, 0, 1)).all():
        raise LeftOut("action unit is not 0, 1 or -1")
    return {name: float(value) for name, value in zip(names, values, strict=True) if value >= 0}

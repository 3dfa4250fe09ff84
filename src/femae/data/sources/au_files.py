"""Action-unit files per film, as in DISFA and BP4D: one text file per action unit, or one csv per clip.

    ActionUnit_Labels/SN001/SN001_au12.txt      lines `frame,intensity`; film LeftVideoSN001_comp.avi or frames
                                                SN001/0001.jpg
    AUCoding/F001_T1.csv                        first line `0,1,2,4,...` names the units, then `frame,code,code,...`;
                                                frames F001/T1/0001.jpg

The name of the clip is the part before `_au12`, or the csv's name. Its pictures are a folder of numbered files with
that name (`F001_T1` or `F001/T1`), else the first film (left before right) whose name contains it. The subject, which
is the group, is the clip's name up to the first `_`. By default, codes are intensities in files per unit and
occurrences in csvs per clip.

Codes of action units, here and in tables, are converted to 0..1 or unknown:

| scale | values | result |
|---|---|---|
| occurrence | 0, 1 | unchanged |
| intensity | 0..5, or A..E for 1..5 | 1 from the threshold on, else 0 |
| probability | 0..1 | unchanged |

The threshold is 2 by default: results on DISFA are reported with an action unit present from intensity 2 (B) on. Empty,
NaN, -1 and 9 (BP4D) are unknown on every scale.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from femae.data.samples import PictureFile, RawSample, VideoFrame
from femae.data.sources.base import (
    BLANK_LINE,
    FILM_SUFFIXES,
    WRONG_COLUMNS,
    LeftOut,
    Source,
    check_every,
    csv_rows,
    film_length,
    key_of,
    numbered_pictures,
    picture_file,
    require,
)
from femae.errors import ConfigError, DataError, LabelError
from femae.labels import action_unit_name

__all__ = ["DEFAULT_THRESHOLD", "AuFilesSource", "AuScale", "action_unit_value", "check_scale"]

_PER_UNIT: Final = re.compile(r"(?P<clip>.+?)_au_?0*(?P<unit>[1-9]\d?)\.(txt|csv)", re.IGNORECASE)
_PER_CLIP: Final = re.compile(r"(?P<clip>[a-z]+\d+_[a-z]\d+)\.csv", re.IGNORECASE)
AuScale = Literal["occurrence", "intensity", "probability"]
DEFAULT_THRESHOLD: Final = 2.0  # of 5
_UNKNOWN: Final = (-1.0, 9.0)
_LETTERS: Final = {letter: float(number) for number, letter in enumerate("abcde", 1)}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Frame:
    clip: str
    number: int  # from 1
    codes: dict[str, str]  # action unit -> code as written
    film: Path | None  # None: frames are pictures
    picture: Path | None
    last: int  # number of the clip's last frame


class AuFilesSource(Source[_Frame]):
    """Reads all such files in a folder, with films or frames in the same folder."""

    def __init__(
        self,
        folder: Path,
        *,
        au_scale: AuScale | None = None,
        au_threshold: float = DEFAULT_THRESHOLD,
        every: int = 1,
        name: str = "au-files",
    ) -> None:
        """`every`: take the labelled frames 1, 1 + every, ... of each film.

        Raises DataError when there are no such files, ConfigError for a wrong option.
        """
        super().__init__(name=name, keep_unlabelled=False)
        check_scale(au_scale or "intensity", au_threshold)
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder: give the one that holds labels and films")
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".txt", ".csv"))
        per_unit = [(path, match) for path in files if (match := _PER_UNIT.fullmatch(path.name))]
        self._units: dict[str, list[tuple[str, Path]]] = {}
        for path, match in per_unit:
            self._units.setdefault(match["clip"], []).append((action_unit_name(match["unit"]), path))
        self._clips = {m["clip"]: path for path in files if (m := _PER_CLIP.fullmatch(path.name))}
        require(
            self._units or self._clips,
            what=f"{folder} holds no files of action units",
            looked_for=["SN001_au12.txt", "F001_T1.csv"],
        )
        self._films = sorted(path for path in folder.rglob("*") if path.suffix.lower() in FILM_SUFFIXES)
        self._folder, self._every, self._threshold = folder, check_every(every), au_threshold
        self._scale = au_scale or ("intensity" if self._units else "occurrence")

    def _items(self) -> Iterator[tuple[str, _Frame]]:
        for clip in sorted({*self._units, *self._clips}):
            codes = self._codes_per_unit(clip) if clip in self._units else self._codes_per_clip(self._clips[clip])
            try:
                film, pictures, last = self._pictures_of(clip)
            except LeftOut as problem:
                self._leave_out(str(problem), clip, count=max(1, len(codes)))
                continue
            numbers = sorted(codes)
            if self._every > 1:
                skipped = len(numbers) - len(numbers[:: self._every])
                self._leave_out(f"frame passed over (every {self._every})", clip, count=skipped)
            for number in numbers[:: self._every]:
                picture = pictures.get(number)
                frame = _Frame(clip=clip, number=number, codes=codes[number], film=film, picture=picture, last=last)
                yield f"{clip}#{number}", frame

    def _codes_per_unit(self, clip: str) -> dict[int, dict[str, str]]:
        codes: dict[int, dict[str, str]] = {}
        for unit, path in self._units[clip]:
            for line, row in csv_rows(path):
                if not row:
                    self._leave_out(BLANK_LINE, f"{path.name}, line {line}")
                elif len(row) != 2 or not row[0].isdecimal():
                    if line > 1:  # the first line may be a header
                        self._leave_out(WRONG_COLUMNS, f"{path.name}, line {line}")
                else:
                    codes.setdefault(int(row[0]), {})[unit] = row[1]
        return codes

    def _codes_per_clip(self, path: Path) -> dict[int, dict[str, str]]:
        codes: dict[int, dict[str, str]] = {}
        units: list[str] = []
        for line, row in csv_rows(path):
            if not row:
                self._leave_out(BLANK_LINE, f"{path.name}, line {line}")
            elif not units:
                try:
                    units = [action_unit_name(cell) for cell in row[1:]]
                except LabelError:
                    self._leave_out("first line does not name the action units", path.name)
                    return {}
            elif len(row) != len(units) + 1 or not row[0].isdecimal():
                self._leave_out(WRONG_COLUMNS, f"{path.name}, line {line}")
            else:
                codes[int(row[0])] = dict(zip(units, row[1:], strict=True))
        return codes

    def _pictures_of(self, clip: str) -> tuple[Path | None, dict[int, Path], int]:
        """(film or None, numbered pictures or {}, number of the last frame) of a clip. Raises LeftOut."""
        for name in (clip, clip.replace("_", "/")):
            for folder in (self._folder / name, *sorted(self._folder.glob(f"*/{name}"))):
                pictures = numbered_pictures(folder) if folder.is_dir() else {}
                if pictures:
                    return None, pictures, max(pictures)
        for film in self._films:
            if re.search(re.escape(clip) + r"(?!\d)", film.stem, re.IGNORECASE):
                return film, {}, film_length(film)
        raise LeftOut("no film and no frames for these labels")

    def _sample(self, item: _Frame) -> RawSample:
        if not 1 <= item.number <= item.last:
            raise LeftOut("label beyond the last frame")
        values = {
            unit: action_unit_value(code, scale=self._scale, threshold=self._threshold)
            for unit, code in item.codes.items()
        }
        picture: PictureFile | VideoFrame
        if item.film is not None:
            picture = VideoFrame(path=item.film, frame=item.number)
        elif item.picture is not None:
            picture = picture_file(item.picture)
        else:
            raise LeftOut("picture file is missing")
        clip = key_of(item.clip)
        return RawSample(
            key=f"{clip}#{item.number:05d}",
            picture=picture,
            group=f"{self.reading.source}/{clip.split('_')[0]}",
            action_units={unit: value for unit, value in values.items() if value is not None},
        )


def check_scale(scale: str, threshold: float) -> None:
    """Raise ConfigError for an unknown scale or a threshold that is not above 0 and at most 5."""
    if scale not in get_args(AuScale):
        raise ConfigError(f"there is no scale '{scale}': expected one of {', '.join(get_args(AuScale))}")
    if not 0 < threshold <= 5:
        raise ConfigError(f"an intensity threshold of {threshold:g}: expected more than 0, at most 5")


def action_unit_value(text: str, *, scale: AuScale, threshold: float = DEFAULT_THRESHOLD) -> float | None:
    """The value 0..1 of a code; None if it is unknown. Raises LeftOut for an invalid code."""
    code = text.strip().lower()
    try:
        value = _LETTERS[code] if scale == "intensity" and code in _LETTERS else float(code or "nan")
    except ValueError:
        raise LeftOut("action unit is not a number") from None
    if math.isnan(value) or value in _UNKNOWN:
        return None
    if scale == "intensity":
        if not 0 <= value <= 5:
            raise LeftOut("intensity of an action unit is not in 0..5")
        return float(value >= threshold)
    if scale == "occurrence" and value not in (0, 1):
        raise LeftOut("action unit is not 0 or 1 (for intensities choose the scale intensity)")
    if not 0 <= value <= 1:
        raise LeftOut("probability of an action unit is not in 0..1")
    return value

"""Reads and writes the files of the three tracks: submissions, the organisers' template, true labels.

The integers of CE are those published for the compound-expression challenge; EXPR and AU follow Aff-Wild2's orders. The
names in the headers come from `femae.labels`.

Reading stops at the first fault, with its line number; `femae abaw validate` (femae.abaw.validate) lists all faults.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from femae.errors import DataError, InputError, OutputError
from femae.files import replacing
from femae.labels import ABAW_COMPOUNDS, AFFWILD2_AUS, LABEL_ORDERS

__all__ = [
    "CE_ROWS",
    "CE_VIDEOS",
    "TRACKS",
    "LabelFile",
    "Template",
    "Track",
    "TrackName",
    "file_lines",
    "location",
    "parse_location",
    "read_labels",
    "read_template",
    "track_of",
    "write_labels",
]

TrackName = Literal["ce", "expr", "au"]
CE_VIDEOS: Final[tuple[str, ...]] = tuple(f"{number:02d}" for number in range(1, 57))  # videos of the challenge
CE_ROWS: Final = 26_145  # frames that the organisers' template lists
_LOCATION: Final = re.compile(r"(?P<video>[^/\\,\s]+)/(?P<frame>\d+)\.jpg", re.ASCII)
_UNKNOWN: Final = -1  # in files of true labels: not annotated


@dataclass(frozen=True, kw_only=True, slots=True)
class Track:
    """One track of the challenge: its header and the values of a row."""

    name: TrackName
    columns: tuple[str, ...]  # of the header, after image_location
    classes: tuple[str, ...]  # names; for AU the units, each 0 or 1
    num_values: int  # integers in a row, after the location
    num_levels: int  # an integer is 0 .. num_levels - 1

    @property
    def header(self) -> str:
        """The header line, without its line end."""
        return ",".join(("image_location", *self.columns))


def _underscored(name: str) -> str:
    return name.replace(" ", "_")


_COMPOUNDS: Final = tuple(compound.name for compound in ABAW_COMPOUNDS)


_EXPRESSIONS: Final = tuple(LABEL_ORDERS["affwild2"][number].capitalize() for number in range(8))


_UNITS: Final = tuple(f"AU{int(name[2:])}" for name in AFFWILD2_AUS)


TRACKS: Final[Mapping[TrackName, Track]] = {
    "ce": Track(
        name="ce", columns=tuple(map(_underscored, _COMPOUNDS)), classes=_COMPOUNDS, num_values=1, num_levels=7
    ),
    "expr": Track(name="expr", columns=_EXPRESSIONS, classes=_EXPRESSIONS, num_values=1, num_levels=8),
    "au": Track(name="au", columns=_UNITS, classes=_UNITS, num_values=len(_UNITS), num_levels=2),
}


def location(video: str, frame: int) -> str:
    """`01`, 1 -> `01/00001.jpg`; frames count from 1."""
    return f"{video}/{frame:05d}.jpg"


def parse_location(text: str) -> tuple[str, int, bool] | None:
    """`01/00001.jpg` -> (`01`, 1, True); None if it is not a location.

    The last value: whether the frame has the right number of digits, five, or six from frame 100000 on.
    """
    match = _LOCATION.fullmatch(text)
    if match is None:
        return None
    frame = int(match["frame"])
    return match["video"], frame, match["frame"] == f"{frame:05d}" and frame >= 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Template:
    """The frames to label, in the order of the organisers' file."""

    videos: tuple[str, ...]  # of each row
    frames: npt.NDArray[np.int64]  # i64[N], from 1
    lines: npt.NDArray[np.int64]  # i64[N], line of the file, from 1

    @property
    def names(self) -> tuple[str, ...]:
        """Each video once, in order of its first row."""
        return tuple(dict.fromkeys(self.videos))

    @property
    def locations(self) -> list[str]:
        """`01/00001.jpg` of each row."""
        return [location(video, int(frame)) for video, frame in zip(self.videos, self.frames, strict=True)]


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelFile:
    """Labels of one track; row n of `values` is for location n."""

    track: Track
    locations: tuple[str, ...]
    values: npt.NDArray[np.int64]  # i64[N, V]; V is 1, or 12 for AU; -1: unknown (only in true labels)


def file_lines(path: Path) -> list[bytes]:
    """The lines of a file as bytes, with their line ends. Raises InputError if it cannot be read."""
    try:
        return path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}; check the name") from error


def track_of(header: str) -> TrackName | None:
    """The track with this header, ignoring spaces and case; None if there is none."""
    plain = "".join(header.removeprefix("\ufeff").split()).casefold()
    return next((name for name, track in TRACKS.items() if track.header.casefold() == plain), None)


def read_template(path: Path) -> Template:
    """Read the frames of a template; a header and anything after the location are ignored.

    Raises InputError if the file cannot be read, DataError for a line without a location and a frame listed twice.
    """
    videos: list[str] = []
    frames: list[int] = []
    lines: list[int] = []
    seen: dict[tuple[str, int], int] = {}
    for number, text in _texts(path):
        first = text.partition(",")[0].strip()
        if not first or (number == 1 and "/" not in first):
            continue
        found = parse_location(first)
        if found is None or found[1] < 1:
            raise DataError(
                f"{path}, line {number}: '{_short(text)}' does not name a frame; expected a row such as 01/00001.jpg,"
            )
        video, frame, _ = found
        if seen.setdefault((video, frame), number) != number:
            raise DataError(f"{path}, line {number}: {first} is already listed on line {seen[video, frame]}")
        videos.append(video)
        frames.append(frame)
        lines.append(number)
    if not videos:
        raise DataError(f"{path} lists no frames; expected rows such as 01/00001.jpg,")
    return Template(videos=tuple(videos), frames=np.array(frames, np.int64), lines=np.array(lines, np.int64))


def read_labels(path: Path, *, track: TrackName | None = None, other_is_unknown: bool = False) -> LabelFile:
    """Read a label file of `track` (None: the track of its header).

    other_is_unknown: for files of true labels, allow -1 (unknown) and, for CE, 7 (another expression), both read as -1.
    Raises InputError, DataError with the line of the first fault.
    """
    texts = _texts(path)
    header = next(texts, (1, ""))[1]
    found = track_of(header)
    if found is None or track not in (None, found):
        expected = TRACKS[track].header if track else "the header of ce, expr or au"
        raise DataError(f"{path}, line 1: '{_short(header)}' is not {expected}")
    kind = TRACKS[found]
    unknown = ((_UNKNOWN, kind.num_levels) if found == "ce" else (_UNKNOWN,)) if other_is_unknown else ()
    values: dict[str, list[int]] = {}
    for number, text in texts:
        if not text.strip():
            continue
        where, *cells = text.split(",")
        if parse_location(where) is None or where in values:
            reason = "appears for the second time" if where in values else "is not a frame such as 01/00001.jpg"
            raise DataError(f"{path}, line {number}: '{_short(where)}' {reason}")
        values[where] = _integers(cells, kind=kind, unknown=unknown, where=f"{path}, line {number}")
    if not values:
        raise DataError(f"{path} has a header and no rows")
    return LabelFile(track=kind, locations=tuple(values), values=np.array([*values.values()], np.int64))


def write_labels(path: Path, rows: Iterable[tuple[str, int, Sequence[int]]], *, track: Track) -> int:
    """Write header and rows (video, frame, integers) atomically, with line feeds.

    Returns the number of rows. Raises OutputError.
    """
    count = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
            file.write(f"{track.header}\n")
            for video, frame, values in rows:
                assert len(values) == track.num_values
                file.write(f"{location(video, frame)},{','.join(str(int(value)) for value in values)}\n")
                count += 1
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; give another --out") from error
    return count


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yields lines as text without their ends, numbered from 1. Raises InputError, DataError for invalid UTF-8."""
    for number, line in enumerate(file_lines(path), start=1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}, line {number}: not a text file (no UTF-8)") from error
        yield number, text.removeprefix("\ufeff").rstrip("\r\n")


def _integers(cells: Sequence[str], *, kind: Track, unknown: Sequence[int], where: str) -> list[int]:
    if len(cells) != kind.num_values:
        raise DataError(f"{where}: {len(cells)} values after the frame; {kind.name} has {kind.num_values}")
    numbers = []
    for cell in cells:
        try:
            number = int(cell)
        except ValueError:
            raise DataError(f"{where}: '{_short(cell)}' is not an integer") from None
        if number in unknown:
            number = _UNKNOWN
        elif not 0 <= number < kind.num_levels:
            raise DataError(f"{where}: {number} is out of range; expected 0 to {kind.num_levels - 1}")
        numbers.append(number)
    return numbers


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."

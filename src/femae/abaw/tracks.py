"""What the files of the three tracks look like: header, classes, one row a frame (6th ABAW challenge).

CE and its integers are the published ones of the compound-expression challenge. EXPR and AU follow Aff-Wild2's orders.
The words of the headers come from `femae.labels`; nothing is listed a second time here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from femae.labels import ABAW_COMPOUNDS, AFFWILD2_AUS, LABEL_ORDERS

__all__ = ["CE_ROWS", "CE_VIDEOS", "TRACKS", "Track", "TrackName", "location", "parse_location"]

TrackName = Literal["ce", "expr", "au"]

CE_VIDEOS: Final[tuple[str, ...]] = tuple(f"{number:02d}" for number in range(1, 57))  # videos of the challenge
CE_ROWS: Final = 26_145  # frames that the organisers' template lists

_LOCATION: Final = re.compile(r"(?P<video>[^/\\,\s]+)/(?P<frame>\d+)\.jpg", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Track:
    """One track: its header line and the values of a row."""

    name: TrackName
    columns: tuple[str, ...]  # of the header, after image_location
    classes: tuple[str, ...]  # in words; of AU: the units, each 0 or 1
    num_values: int  # integers in a row, after the location
    num_levels: int  # an integer is 0 .. num_levels - 1

    @property
    def header(self) -> str:
        """The first line, without its end."""
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
    """`01/00001.jpg` -> (`01`, 1, True); None when it is no location at all.

    The last value says whether the frame is written with the right number of digits: five, from frame 100000 on six.
    """
    match = _LOCATION.fullmatch(text)
    if match is None:
        return None
    frame = int(match["frame"])
    return match["video"], frame, match["frame"] == f"{frame:05d}" and frame >= 1

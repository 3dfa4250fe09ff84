"""Which frames deserve a picture: a portrait of each face, and the moments in which a label is surest."""

from bisect import bisect
from dataclasses import dataclass

import numpy as np

from femae.report.parts.tracks import Track

__all__ = ["Moment", "portrait_row", "strongest"]

_APART_S = 1.0  # a moment is the surest of its face and label for this long to either side
_ENOUGH = 0.5  # of the highest certainty among its rivals: weaker moments are not shown


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """One row of a table that gets a picture. `track`: its place in the list of tracks."""

    track: int
    row: int
    certainty: float  # of the label of that row


def portrait_row(track: Track) -> int:
    """The row that shows a face best: a sure detection and a large box."""
    boxes = track.table.boxes[track.rows].astype(np.float64)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    sure = np.nan_to_num(track.table.detection[track.rows].astype(np.float64), nan=0.5)
    return int(track.rows[np.argmax(np.nan_to_num(sure * np.sqrt(np.maximum(area, 0))))])


def strongest(tracks: list[Track], *, count: int = 18) -> list[Moment]:
    """The moments of the highest certainty, the highest first: first one for each face and label, then more of each.

    Only rows that have the label count, so that a picture shows what its label says; moments of `none` are left out.
    """
    found: list[tuple[int, Moment]] = []
    for number, track in enumerate(tracks):
        label = track.table.label[track.rows]
        for name in np.unique(label[(label >= 0) & (label != track.table.quiet)]):
            found += _of_one(track, number, label == name)
    top: dict[tuple[int, int], float] = {}
    for _, moment in found:
        rival = _rival(moment, tracks)
        top[rival] = max(top.get(rival, 0.0), moment.certainty)
    found = [item for item in found if item[1].certainty >= _ENOUGH * top[_rival(item[1], tracks)]]
    found.sort(key=lambda item: (item[0], -item[1].certainty))
    return sorted((moment for _, moment in found[:count]), key=lambda moment: -moment.certainty)


def _rival(moment: Moment, tracks: list[Track]) -> tuple[int, int]:
    """Which moments one must not fall far behind: scores those of its face, probabilities also of its label.

    A compound is seldom as probable as a plain emotion, and is to be seen all the same.
    """
    table = tracks[moment.track].table
    return moment.track, int(table.label[moment.row]) if table.labels == "expression" else -1


def _of_one(track: Track, number: int, mine: np.ndarray) -> list[tuple[int, Moment]]:
    """Up to three peaks of one face and label, each with its rank; `mine`: bool[n] rows of the track that have it."""
    rows = track.rows[mine]
    certainty = track.table.certainty[rows].astype(np.float64)
    times = np.nan_to_num(track.table.time_s[rows])
    peaks: list[tuple[int, Moment]] = []
    surer: list[float] = []  # times of the rows that come before, rising
    for place in np.argsort(-certainty, kind="stable"):
        at = bisect(surer, times[place])
        is_peak = all(abs(times[place] - other) >= _APART_S for other in surer[max(at - 1, 0) : at + 1])
        surer.insert(at, float(times[place]))
        if is_peak:
            peaks.append((len(peaks), Moment(track=number, row=int(rows[place]), certainty=float(certainty[place]))))
        if len(peaks) == 3:
            break
    return peaks

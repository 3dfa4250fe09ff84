"""Which frames deserve a picture: a portrait of each face, and the moments of the highest compound scores."""

from dataclasses import dataclass

import numpy as np

from femae.report.tracks import Track

__all__ = ["Moment", "portrait_row", "strongest"]

_APART_S = 1.0  # two moments of one face and compound lie at least this far apart
_ENOUGH = 0.5  # of a face's highest score: weaker moments of it are not shown


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """One row of a table that gets a picture. `track`: its place in the list of tracks."""

    track: int
    row: int
    compound: int
    score: float


def portrait_row(track: Track) -> int:
    """The row that shows a face best: a sure detection and a large box."""
    boxes = track.table.boxes[track.rows].astype(np.float64)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    sure = np.nan_to_num(track.table.detection[track.rows].astype(np.float64), nan=0.5)
    return int(track.rows[np.argmax(np.nan_to_num(sure * np.sqrt(np.maximum(area, 0))))])


def strongest(tracks: list[Track], *, count: int = 18) -> list[Moment]:
    """The moments with the highest compound scores, the highest first: first one for each face and compound, then more.

    Only rows whose compound is that class count, so that a picture shows what its label says.
    """
    found: list[tuple[int, Moment]] = []
    for number, track in enumerate(tracks):
        label = track.table.label[track.rows]
        for compound in np.unique(label[label >= 0]):
            found += _of_one(track, number, int(compound), label == compound)
    top: dict[int, float] = {}
    for _, moment in found:
        top[moment.track] = max(top.get(moment.track, 0.0), moment.score)
    found = [(rank, moment) for rank, moment in found if moment.score >= _ENOUGH * top[moment.track]]
    found.sort(key=lambda item: (item[0], -item[1].score))
    return sorted((moment for _, moment in found[:count]), key=lambda moment: -moment.score)


def _of_one(track: Track, number: int, compound: int, mine: np.ndarray) -> list[tuple[int, Moment]]:
    """Up to three peaks of one face and compound, each with its rank."""
    rows = track.rows[mine]
    scores = track.table.compound_score[rows].astype(np.float64)
    times = np.nan_to_num(track.table.time_s[rows])
    peaks: list[tuple[int, Moment]] = []
    taken: list[float] = []
    for place in np.argsort(-scores, kind="stable"):
        if all(abs(times[place] - other) >= _APART_S for other in taken):
            taken.append(float(times[place]))
            moment = Moment(track=number, row=int(rows[place]), compound=compound, score=float(scores[place]))
            peaks.append((len(peaks), moment))
        if len(peaks) == 3:
            break
    return peaks

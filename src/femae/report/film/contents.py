"""The tracks in the page of a film: their numbers for the script, and the moments that get a picture."""

import math
from bisect import bisect
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from femae.report.parts.series import action_unit_style, compound_style, emotion_style, keep_peaks
from femae.report.parts.tables import PredictionTable
from femae.report.parts.tracks import Track, parts_of

__all__ = ["Moment", "Packed", "pack_tracks", "portrait_row", "series_groups", "strongest"]

_ABSENT = 65535
_HIGHEST = 60000
_APART_S = 1.0  # a moment is the surest of its face and label for this long to either side
_ENOUGH = 0.5  # of the highest certainty among its rivals: weaker moments are not shown


class Packed:
    """`block`: bytes; `tracks`: where each track's columns begin in it; `num_drawn`: rows that are in it."""

    def __init__(self, *, block: bytes, tracks: list[dict[str, Any]], num_drawn: int) -> None:
        self.block, self.tracks, self.num_drawn = block, tracks, num_drawn


def series_groups(tables: list[PredictionTable]) -> list[dict[str, Any]]:
    """The charts of each face: emotions, scores of compounds where those are shown, action units if there are any."""
    first = tables[0]
    largest = max((float(np.nanmax(t.scores)) for t in tables if np.isfinite(t.scores).any()), default=1.0)
    groups: list[dict[str, Any]] = [{"name": "emotions", "top": 1.0, "series": emotion_style()}]
    if first.labels == "compound":
        top = max(1.0, math.ceil(4 * largest) / 4)
        groups.append({"name": "compound expressions", "top": top, "series": compound_style(first.compounds)})
    if first.au_names:
        groups.append({"name": "action units", "top": 1.0, "series": action_unit_style(first.au_names)})
    column = 0
    for group in groups:
        for series in group["series"]:
            series["column"] = column
            column += 1
    return groups


def pack_tracks(tracks: list[Track], times: npt.NDArray[np.float64], *, max_rows: int) -> Packed:
    """Times f64, then frames u32, values u16 and labels u8 of each track; at most about `max_rows` rows in all.

    The columns of values are those of `series_groups`, and behind them the certainty of the label.
    """
    total = sum(len(track.rows) for track in tracks)
    places, columns = [], []
    for track in tracks:
        table = track.table
        scores = [table.scores] if table.labels == "compound" else []
        columns_of_all = [table.emotions, *scores, table.aus, table.certainty[:, None]]
        values = np.concatenate(columns_of_all, axis=1)[track.rows]  # [n, S + 1]
        kept = keep_peaks(values, max_rows=max(1000, max_rows * len(track.rows) // max(total, 1)))
        largest = float(np.nanmax(values)) if np.isfinite(values).any() else 1.0
        scale = max(1e-6, largest) / _HIGHEST
        whole = np.where(np.isfinite(values), np.rint(np.nan_to_num(values) / scale), _ABSENT).clip(0, _ABSENT)
        label = np.where(table.label < 0, 255, table.label)[track.rows]
        places.append({"length": len(kept), "scale": scale, "parts": parts_of(track.frames)})
        columns.append((track.frames[kept].astype("<u4"), whole[kept].astype("<u2"), label[kept].astype(np.uint8)))
    return _lay_out(times, places, columns)


def _lay_out(times: npt.NDArray[np.float64], places: list[dict[str, Any]], columns: list[Any]) -> Packed:
    """Columns of four bytes first, then of two, then of one, so that each begins where its type may."""
    chunks, at = [times.astype("<f8").tobytes()], 8 * len(times)
    for place, (frames, _, _) in zip(places, columns, strict=True):
        place["frames_at"] = at
        chunks.append(frames.tobytes())
        at += frames.nbytes
    for place, (_, values, _) in zip(places, columns, strict=True):
        place["columns_at"] = [at + 2 * len(values) * number for number in range(values.shape[1])]
        chunks.append(np.ascontiguousarray(values.T).tobytes())
        at += values.nbytes
    for place, (_, _, label) in zip(places, columns, strict=True):
        place["labels_at"] = at
        chunks.append(label.tobytes())
        at += label.nbytes
    return Packed(block=b"".join(chunks), tracks=places, num_drawn=sum(place["length"] for place in places))


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

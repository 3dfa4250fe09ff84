"""The tracks in the page of a film: packed values for the script, and the moments shown with a picture."""

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

_MISSING = 65535  # u16 code of NaN
_MAX_VALUE = 60000  # u16 code of the largest value
_MIN_DISTANCE_S = 1.0  # a moment has the highest certainty of its face and label for this long to either side
_MIN_RATIO = 0.5  # moments with less than this share of the highest certainty in their group are not shown


class Packed:
    """`block`: all columns; `tracks`: byte offsets of each track's columns; `num_drawn`: number of rows in it."""

    def __init__(self, *, block: bytes, tracks: list[dict[str, Any]], num_drawn: int) -> None:
        self.block, self.tracks, self.num_drawn = block, tracks, num_drawn


def series_groups(tables: list[PredictionTable]) -> list[dict[str, Any]]:
    """The charts of each face: emotions, compound scores in the view `compound`, action units if there are any."""
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
    """Packs times f64, then frames u32, values u16 and labels u8 of each track; about `max_rows` rows at most in all.

    The columns of values are those of `series_groups`, followed by the certainty of the label.
    """
    total = sum(len(track.rows) for track in tracks)
    layouts, columns = [], []
    for track in tracks:
        table = track.table
        scores = [table.scores] if table.labels == "compound" else []
        columns_of_all = [table.emotions, *scores, table.aus, table.certainty[:, None]]
        values = np.concatenate(columns_of_all, axis=1)[track.rows]  # [n, S + 1]
        kept = keep_peaks(values, max_rows=max(1000, max_rows * len(track.rows) // max(total, 1)))
        largest = float(np.nanmax(values)) if np.isfinite(values).any() else 1.0
        scale = max(1e-6, largest) / _MAX_VALUE
        whole = np.where(np.isfinite(values), np.rint(np.nan_to_num(values) / scale), _MISSING).clip(0, _MISSING)
        label = np.where(table.label < 0, 255, table.label)[track.rows]
        layouts.append({"length": len(kept), "scale": scale, "parts": parts_of(track.frames)})
        columns.append((track.frames[kept].astype("<u4"), whole[kept].astype("<u2"), label[kept].astype(np.uint8)))
    return _lay_out(times, layouts, columns)


def _lay_out(times: npt.NDArray[np.float64], layouts: list[dict[str, Any]], columns: list[Any]) -> Packed:
    """Concatenates columns of 8, 4, 2 and 1 bytes in this order, so that each one is aligned."""
    chunks, at = [times.astype("<f8").tobytes()], 8 * len(times)
    for layout, (frames, _, _) in zip(layouts, columns, strict=True):
        layout["frames_at"] = at
        chunks.append(frames.tobytes())
        at += frames.nbytes
    for layout, (_, values, _) in zip(layouts, columns, strict=True):
        layout["columns_at"] = [at + 2 * len(values) * number for number in range(values.shape[1])]
        chunks.append(np.ascontiguousarray(values.T).tobytes())
        at += values.nbytes
    for layout, (_, _, label) in zip(layouts, columns, strict=True):
        layout["labels_at"] = at
        chunks.append(label.tobytes())
        at += label.nbytes
    return Packed(block=b"".join(chunks), tracks=layouts, num_drawn=sum(layout["length"] for layout in layouts))


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """One row of a table, shown with a picture. `track`: index in the list of tracks."""

    track: int
    row: int
    certainty: float  # of the label of that row


def portrait_row(track: Track) -> int:
    """The row with the best portrait: the largest detection score times square root of the box area."""
    boxes = track.table.boxes[track.rows].astype(np.float64)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    sure = np.nan_to_num(track.table.detection[track.rows].astype(np.float64), nan=0.5)
    return int(track.rows[np.argmax(np.nan_to_num(sure * np.sqrt(np.maximum(area, 0))))])


def strongest(tracks: list[Track], *, count: int = 18) -> list[Moment]:
    """The `count` moments with the highest certainty, in descending order; those of `none` are left out.

    The best moment of each face and label is chosen before the second and third ones. A moment is always a row with
    that label, so that its picture shows what the label says.
    """
    found: list[tuple[int, Moment]] = []
    for number, track in enumerate(tracks):
        label = track.table.label[track.rows]
        for name in np.unique(label[(label >= 0) & (label != track.table.quiet)]):
            found += _peaks(track, number, label == name)
    top: dict[tuple[int, int], float] = {}
    for _, moment in found:
        group = _group(moment, tracks)
        top[group] = max(top.get(group, 0.0), moment.certainty)
    found = [item for item in found if item[1].certainty >= _MIN_RATIO * top[_group(item[1], tracks)]]
    found.sort(key=lambda item: (item[0], -item[1].certainty))
    return sorted((moment for _, moment in found[:count]), key=lambda moment: -moment.certainty)


def _group(moment: Moment, tracks: list[Track]) -> tuple[int, int]:
    """The group in which a moment's certainty is compared: its face, in the view `expression` also its label.

    A compound is rarely as probable as a single emotion, but should be shown, too.
    """
    table = tracks[moment.track].table
    return moment.track, int(table.label[moment.row]) if table.labels == "expression" else -1


def _peaks(track: Track, number: int, selected: np.ndarray) -> list[tuple[int, Moment]]:
    """Up to three peaks of one face and label, each with its rank; `selected`: bool[n], rows with this label."""
    rows = track.rows[selected]
    certainty = track.table.certainty[rows].astype(np.float64)
    times = np.nan_to_num(track.table.time_s[rows])
    peaks: list[tuple[int, Moment]] = []
    higher: list[float] = []  # times of rows with higher certainty, ascending
    for index in np.argsort(-certainty, kind="stable"):
        at = bisect(higher, times[index])
        is_peak = all(abs(times[index] - other) >= _MIN_DISTANCE_S for other in higher[max(at - 1, 0) : at + 1])
        higher.insert(at, float(times[index]))
        if is_peak:
            peaks.append((len(peaks), Moment(track=number, row=int(rows[index]), certainty=float(certainty[index]))))
        if len(peaks) == 3:
            break
    return peaks

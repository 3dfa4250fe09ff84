"""The numbers of a film's tracks in one block of bytes, as the page's script reads them."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from femae.report.parts.decimate import keep_peaks
from femae.report.parts.style import action_unit_style, compound_style, emotion_style
from femae.report.parts.tables import PredictionTable
from femae.report.parts.tracks import Track, parts_of

__all__ = ["Packed", "pack_tracks", "series_groups"]

_ABSENT = 65535
_HIGHEST = 60000


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

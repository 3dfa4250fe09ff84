"""How often each compound is the strongest, per face: the numbers of the page's tables."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from femae.report.tables import PredictionTable
from femae.report.tracks import Track, clock_text, frame_times

__all__ = ["SHARE_NOTE", "emotion_words", "share_rows", "share_table", "track_summary"]

SHARE_NOTE = "Share of a face's frames in which a compound has the largest score. Read shares with the mean scores."


def share_rows(table: PredictionTable, rows: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
    """One entry per compound, the most frequent first; abstained rows last, if there are any."""
    label = table.label[rows]
    entries: list[dict[str, Any]] = []
    for number, compound in enumerate(table.compounds):
        score = float(np.nanmean(table.scores[rows, number])) if len(rows) else float("nan")
        entries.append(_entry(compound.name, float(np.mean(label == number)) if len(rows) else 0.0, f"{score:.2f}"))
    entries.sort(key=lambda entry: -float(entry["percent"]))
    if (label < 0).any():
        entries.append(_entry("abstained", float(np.mean(label < 0)), ""))
    return entries


def _entry(name: str, share: float, score_text: str) -> dict[str, Any]:
    return {"name": name, "percent": round(100 * share, 2), "share_text": f"{share:.1%}", "score_text": score_text}


def track_summary(track: Track, times: npt.NDArray[np.float64]) -> str:
    """In words: how many frames, from when to when."""
    frames = track.frames
    num_frames = len(times)
    begin, end = (clock_text(float(times[frame - 1]), digits=1) for frame in (frames[0], frames[-1]))
    share = len(frames) / num_frames
    return f"{len(frames):,} of {num_frames:,} frames ({share:.1%}), {begin} to {end}"


def share_table(track: Track, *, number: int | None, thumb: str) -> dict[str, Any]:
    """The table of one face for the template."""
    return {
        "name": track.name,
        "track": number,
        "thumb": thumb,
        "summary": track_summary(track, frame_times(track.table)),
        "rows": share_rows(track.table, track.rows),
    }


def emotion_words(values: Sequence[float], names: Sequence[str], *, count: int = 3) -> str:
    """The largest few probabilities in words: anger 0.81, sadness 0.40."""
    order = sorted(range(len(names)), key=lambda number: -values[number])[:count]
    return ", ".join(f"{names[number]} {values[number]:.2f}" for number in order)

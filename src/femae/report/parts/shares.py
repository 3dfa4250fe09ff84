"""How often a face has each label: the numbers of the page's tables."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from femae.report.parts.tables import LABEL_WORDS, PredictionTable
from femae.report.parts.tracks import Track, clock_text, frame_times
from femae.types import LabelView
from femae.video.palette import label_styles

__all__ = ["SHARES_OF", "emotion_words", "label_words", "share_rows", "share_table", "track_summary"]

SHARES_OF: Final = ("a face's frames", "the faces of all pictures")
_NOTES: Final[dict[LabelView, str]] = {
    "expression": "Share of {} with each expression, and the mean probability of the expression there.",
    "compound": "Share of {} in which a compound has the largest score. Read shares with the mean scores.",
}
_CALIBRATED: Final = " Of ten faces with a probability of 0.7, annotators judge about seven so."
_ROUGH: Final = " The model has no fitted numbers for expressions, so that the probabilities are rough ones."


def label_words(labels: LabelView, of: str, *, settings: Mapping[str, str]) -> dict[str, str]:
    """What labels and their numbers are called, heading and sentences of the shares.

    `of`: one of SHARES_OF; `settings`: metadata of the table.
    """
    label, number = LABEL_WORDS[labels]
    note = _NOTES[labels].format(of)
    if labels == "expression" and "expression" in settings:
        note += _CALIBRATED if _is_calibrated(settings["expression"]) else _ROUGH
    return {
        "title": f"Share of each {label}",
        "note": note,
        "label": label,
        "number": number,
    }


def _is_calibrated(description: str) -> bool:
    """Whether the numbers of the rule, as a table's metadata tells them, were fitted to faces."""
    try:
        return int(json.loads(description)["num_faces"]) > 0
    except (KeyError, TypeError, ValueError):
        return False


def share_rows(table: PredictionTable, rows: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
    """One entry per label, the most frequent first; abstained rows last, if there are any.

    Expressions: those that occur, with their mean probability where they are said. Compounds: all, with their mean
    score over all of `rows`.
    """
    label, certainty = table.label[rows], table.certainty[rows]
    entries: list[dict[str, Any]] = []
    for number, style in enumerate(label_styles(table.names, table.compounds)):
        mine = label == number
        if table.labels == "compound":
            mean = float(np.nanmean(table.scores[rows, number])) if len(rows) else float("nan")
        elif mine.any():
            mean = float(np.mean(certainty[mine]))
        else:
            continue
        entries.append(_entry(style, float(np.mean(mine)) if len(rows) else 0.0, f"{mean:.2f}"))
    entries.sort(key=lambda entry: -float(entry["percent"]))
    if (label < 0).any():
        entries.append(_entry({"name": "abstained", "colours": []}, float(np.mean(label < 0)), ""))
    return entries


def _entry(style: dict[str, Any], share: float, number_text: str) -> dict[str, Any]:
    return {"style": style, "percent": round(100 * share, 2), "share_text": f"{share:.1%}", "number_text": number_text}


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

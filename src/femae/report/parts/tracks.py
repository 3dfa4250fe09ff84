"""Views of a table for pages: one track per face id, the gaps without faces, and the share of each label."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from femae.labels import ACTION_UNIT_WORDS
from femae.report.parts.tables import LABEL_WORDS, PredictionTable
from femae.types import LabelView
from femae.video.palette import label_styles

__all__ = [
    "SHARES_OF",
    "Gap",
    "Track",
    "clock_text",
    "emotion_words",
    "find_gaps",
    "frame_times",
    "label_words",
    "parts_of",
    "share_rows",
    "share_table",
    "split_tracks",
    "track_summary",
    "unit_key",
    "unit_words",
    "usual_step_s",
]
SHARES_OF: Final = ("a face's frames", "the faces of all pictures")
_NOTES: Final[dict[LabelView, str]] = {
    "expression": "Share of {} with each expression, and the mean probability of the expression there.",
    "compound": "Share of {} in which a compound has the largest score. Read shares with the mean scores.",
}
_UNIT_THRESHOLD: Final = 0.5  # least probability of an active action unit
_MIN_UNIT_SHARE: Final = 1 / 3  # of the rows of a label; rarer action units are not listed
_CALIBRATED: Final = " Of ten faces given a probability of 0.7, annotators agree on about seven."
_ROUGH: Final = " The model has no fitted rule for expressions, so the probabilities are rough."


@dataclass(frozen=True, kw_only=True, slots=True)
class Track:
    """One face id of one table. `rows`: i64[n], its rows in the table, ordered by frame."""

    name: str  # "face 1"
    short: str
    table: PredictionTable
    face_id: int
    rows: npt.NDArray[np.int64]

    @property
    def frames(self) -> npt.NDArray[np.int64]:
        """Frame numbers i64[n], ascending, counted from 1."""
        return self.table.frame[self.rows]


@dataclass(frozen=True, kw_only=True, slots=True)
class Gap:
    """Consecutive frames without a face or undecodable; both ends are included."""

    status: str  # no_face, unreadable
    from_frame: int
    to_frame: int

    @property
    def num_frames(self) -> int:
        return self.to_frame - self.from_frame + 1


def split_tracks(table: PredictionTable, *, prefix: str = "", short: str = "") -> list[Track]:
    """The tracks of a film, ordered by face id."""
    tracks = []
    for face_id in np.unique(table.face_id[table.face_id > 0]):
        rows = np.flatnonzero(table.face_id == face_id)
        rows = rows[np.argsort(table.frame[rows], kind="stable")]
        name = f"{prefix}face {face_id}"
        tracks.append(Track(name=name, short=f"{short}#{face_id}", table=table, face_id=int(face_id), rows=rows))
    return tracks


def parts_of(frames: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """First and last frame of each run of consecutive frames; `frames` i64[n], ascending."""
    if not len(frames):
        return []
    breaks = np.flatnonzero(np.diff(frames) > 1)
    starts, ends = np.r_[0, breaks + 1], np.r_[breaks, len(frames) - 1]
    return [(int(frames[a]), int(frames[b])) for a, b in zip(starts, ends, strict=True)]


def frame_times(table: PredictionTable) -> npt.NDArray[np.float64]:
    """Presentation times f64[F] of frames 1 .. last in seconds; missing ones are interpolated."""
    num_frames = int(table.frame.max())
    times = np.full(num_frames, np.nan)
    times[table.frame - 1] = table.time_s
    known = np.flatnonzero(np.isfinite(times))
    if not len(known):
        return np.arange(num_frames, dtype=np.float64)
    filled = np.interp(np.arange(num_frames), known, times[known])
    return np.maximum.accumulate(filled)


def usual_step_s(times: npt.NDArray[np.float64]) -> float:
    """Median frame duration in seconds; 0.04 for a single frame."""
    steps = np.diff(times)
    steps = steps[steps > 0]
    return float(np.median(steps)) if len(steps) else 0.04


def find_gaps(table: PredictionTable) -> list[Gap]:
    """The gaps of a table, in order; each has one status."""
    gaps = []
    for status in ("no_face", "unreadable"):
        frames = np.unique(table.frame[table.status == status])
        gaps += [Gap(status=status, from_frame=a, to_frame=b) for a, b in parts_of(frames)]
    return sorted(gaps, key=lambda gap: gap.from_frame)


def clock_text(seconds: float, *, digits: int = 3) -> str:
    """A time as 1:02.040, or 1:00:02.040 from one hour on."""
    scale = 10**digits
    ticks = round(abs(seconds) * scale)
    whole, part = divmod(ticks, scale)
    hours, minutes, secs = whole // 3600, whole // 60 % 60, whole % 60
    head = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    tail = f".{part:0{digits}d}" if digits else ""
    return f"{'-' if seconds < 0 else ''}{head}:{secs:02d}{tail}"


def label_words(labels: LabelView, of: str, *, settings: Mapping[str, str]) -> dict[str, str]:
    """Texts of a page: title and note of the shares, and the words for labels and their numbers.

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
    """Whether the rule in a table's metadata (ExpressionRule.describe) was fitted to faces."""
    try:
        return int(json.loads(description)["num_faces"]) > 0
    except (KeyError, TypeError, ValueError):
        return False


def share_rows(table: PredictionTable, rows: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
    """One entry per label, in descending order of frequency; abstained rows, if any, are last.

    Expressions: those that occur, with the mean probability where they are the label. Compounds: all, with the mean
    score over all of `rows`.
    """
    label, certainty = table.label[rows], table.certainty[rows]
    entries: list[dict[str, Any]] = []
    for number, style in enumerate(label_styles(table.names, table.compounds)):
        selected = label == number
        if table.labels == "compound":
            mean = float(np.nanmean(table.scores[rows, number])) if len(rows) else float("nan")
        elif selected.any():
            mean = float(np.mean(certainty[selected]))
        else:
            continue
        entry = _entry(style, float(np.mean(selected)) if len(rows) else 0.0, f"{mean:.2f}")
        entries.append(entry | {"units_text": _frequent_units(table, rows[selected])})
    entries.sort(key=lambda entry: -float(entry["percent"]))
    if (label < 0).any():
        entries.append(_entry({"name": "abstained", "colours": []}, float(np.mean(label < 0)), ""))
    return entries


def _entry(style: dict[str, Any], share: float, number_text: str) -> dict[str, Any]:
    return {"style": style, "percent": round(100 * share, 2), "share_text": f"{share:.1%}", "number_text": number_text}


def track_summary(track: Track, times: npt.NDArray[np.float64]) -> str:
    """Number of frames, share, first and last time of a track, in words."""
    frames = track.frames
    num_frames = len(times)
    begin, end = (clock_text(float(times[frame - 1]), digits=1) for frame in (frames[0], frames[-1]))
    share = len(frames) / num_frames
    return f"{len(frames):,} of {num_frames:,} frames ({share:.1%}), {begin} to {end}"


def _frequent_units(table: PredictionTable, rows: npt.NDArray[np.int64]) -> str:
    """Action units active in many of the rows, the most frequent first: AU12 96%, AU25 81%."""
    if not table.au_names or not len(rows):
        return ""
    shares = (table.aus[rows] >= _UNIT_THRESHOLD).mean(0)
    order = np.argsort(-shares, kind="stable")
    return ", ".join(f"{table.au_names[unit]} {shares[unit]:.0%}" for unit in order if shares[unit] >= _MIN_UNIT_SHARE)


def unit_words(table: PredictionTable, row: int) -> str:
    """The active action units of a row, the most probable first: AU12 0.97, AU25 0.88."""
    if not table.au_names:
        return ""
    shown = [
        (float(value), name)
        for name, value in zip(table.au_names, table.aus[row], strict=True)
        if value >= _UNIT_THRESHOLD
    ]
    return ", ".join(f"{name} {value:.2f}" for value, name in sorted(shown, reverse=True))


def unit_key(table: PredictionTable) -> str:
    """Codes and names of a table's action units; empty if it has none."""
    return ", ".join(f"{name} {ACTION_UNIT_WORDS.get(name, '')}".strip() for name in table.au_names)


def share_table(track: Track, *, number: int | None, thumb: str) -> dict[str, Any]:
    """Values of the template's share table for one face."""
    return {
        "name": track.name,
        "track": number,
        "thumb": thumb,
        "summary": track_summary(track, frame_times(track.table)),
        "rows": share_rows(track.table, track.rows),
        "units": unit_key(track.table),
    }


def emotion_words(values: Sequence[float], names: Sequence[str], *, count: int = 3) -> str:
    """The `count` largest probabilities in words: anger 0.81, sadness 0.40."""
    order = sorted(range(len(names)), key=lambda number: -values[number])[:count]
    return ", ".join(f"{names[number]} {values[number]:.2f}" for number in order)

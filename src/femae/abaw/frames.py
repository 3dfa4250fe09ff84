"""Turns the scores of faces into one row of values per frame: merges several faces, fills gaps, aligns frames.

Merged and interpolated are the scores of a track, for CE the seven compound scores of each face. So with `max` the
label is that of the face with the highest compound score, never a mixture of two people's emotions.

Alignment: extracting the frames of the 56 videos with another tool gives one frame more or fewer than the organisers'
template in fifteen of them, and it is unknown which one. So the user chooses the method.
"""

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from femae.abaw.film import Film
from femae.compound.smoothing import interpolate_gaps
from femae.errors import ConfigError, DataError

__all__ = ["Alignment", "SeveralFaces", "align_frames", "fill_frames", "merge_faces", "side_of"]

SeveralFaces = Literal["max", "mean", "largest", "track"]
_Values = npt.NDArray[np.float32]
_Known = npt.NDArray[np.bool_]
Alignment = Literal["clip", "shift", "nearest"]


def merge_faces(film: Film, values: _Values, *, several: SeveralFaces) -> tuple[_Values, _Known]:
    """Values f32[N, C] of N faces -> f32[num_frames, C] of the frames, and bool[num_frames]: the frame has a face.

    max, mean: of each value over the faces; largest: the face with the largest box; track: only the face id with the
    most frames in the film (ties: the lowest id). Frames without a face are NaN. Raises ConfigError for `track` on
    pictures, whose ids are not tracked.
    """
    assert several in get_args(SeveralFaces) and len(values) == len(film.frames)
    if several == "track":
        if film.is_pictures:
            raise ConfigError(
                f"{film.name} is a table of pictures, which have no lasting face ids: choose max, mean or largest"
            )
        ids, counts = np.unique(film.face_ids, return_counts=True)
        film, values = _only(film, values, film.face_ids == ids[np.argmax(counts)] if len(ids) else film.face_ids > 0)
    rows = film.frames - 1
    known = np.zeros(film.num_frames, np.bool_)
    known[rows] = True
    if several == "mean":
        totals = np.zeros((film.num_frames, values.shape[1]))
        np.add.at(totals, rows, values.astype(np.float64))
        counts = np.bincount(rows, minlength=film.num_frames)
        merged = (totals / np.maximum(counts, 1)[:, None]).astype(np.float32)
    else:
        if several == "largest":
            film, values = _only(film, values, _is_largest(film))
            rows = film.frames - 1
        merged = np.full((film.num_frames, values.shape[1]), -np.inf, np.float32)
        np.maximum.at(merged, rows, values)
    merged[~known] = np.nan
    return merged, known


def fill_frames(values: _Values, known: _Known, *, how: Literal["interpolate", "nearest"]) -> _Values:
    """Fill unknown rows of f32[T, C]; at least one must be known.

    interpolate: linear in the frame number between known frames, constant before the first and after the last one.
    nearest: copy the nearest known frame; ties go to the earlier one.
    """
    assert known.any()
    if how == "interpolate":
        numbers = np.arange(len(values), dtype=np.float64)
        filled, _ = interpolate_gaps(numbers, values, known, max_gap_s=np.inf, ends="copy")
        return filled
    known_frames = np.flatnonzero(known)
    frames = np.arange(len(values))
    after = np.searchsorted(known_frames, frames).clip(max=len(known_frames) - 1)
    before = np.maximum(np.searchsorted(known_frames, frames, side="right") - 1, 0)
    earlier, later = known_frames[before], known_frames[after]
    nearest = np.where(np.abs(frames - earlier) <= np.abs(later - frames), earlier, later)
    return values[nearest]


def side_of(film: Film, *, side: Literal["left", "right"]) -> Film:
    """The faces of one of two people, told apart as in Aff-Wild2: left or right in the picture.

    The border is midway between the mean positions of the two most frequent face ids; with a single id, or in pictures,
    midway between the leftmost and the rightmost face.
    """
    centres = film.boxes_xyxy[:, [0, 2]].mean(axis=1)
    if not len(centres):
        return film
    ids, counts = np.unique(film.face_ids, return_counts=True)
    if film.is_pictures or len(ids) == 1:
        border = (centres.min() + centres.max()) / 2
    else:
        two = ids[np.argsort(-counts, kind="stable")[:2]]
        border = np.mean([centres[film.face_ids == one].mean() for one in two])
    return film.only(centres <= border if side == "left" else centres > border)


def _only(film: Film, values: _Values, faces: _Known) -> tuple[Film, _Values]:
    return film.only(faces), values[faces]


def _is_largest(film: Film) -> _Known:
    """bool[N]: the face has the largest box of its frame; ties go to the first."""
    x1, y1, x2, y2 = film.boxes_xyxy.T.astype(np.float64)
    order = np.lexsort((np.arange(len(film.frames)), -(x2 - x1) * (y2 - y1), film.frames))
    first = np.ones(len(order), np.bool_)
    first[1:] = np.diff(film.frames[order]) > 0
    chosen = np.zeros(len(order), np.bool_)
    chosen[order[first]] = True
    return chosen


def align_frames(
    wanted: npt.NDArray[np.int64], *, num_frames: int, way: Alignment, tolerance: int, name: str
) -> npt.NDArray[np.int64]:
    """The frame i64[M] of the film, 1 .. num_frames, for each wanted frame i64[M] of the template.

    The template's length is its largest wanted frame. clip: aligned at the start; additional frames of the film are
    dropped, missing ones repeat its last frame. shift: aligned at the end, likewise at the start. nearest: both are
    scaled to the same duration. Raises DataError if the lengths differ by more than `tolerance` frames.
    """
    assert way in get_args(Alignment) and num_frames >= 1 and len(wanted)
    length = int(wanted.max())
    difference = num_frames - length
    if abs(difference) > tolerance:
        raise DataError(
            f"{name} has {num_frames} frames and the template {length}: is it the right film? To align them anyway, "
            f"give --tolerance {abs(difference)}"
        )
    if difference == 0 or way == "clip":
        frames = wanted
    elif way == "shift":
        frames = wanted + difference
    else:
        frames = 1 + np.floor((wanted - 0.5) * num_frames / length).astype(np.int64)
    return np.clip(frames, 1, num_frames)

"""Smoothing of one face's probabilities over time, and filling of short gaps (the paper decides frame by frame).

All times are in seconds, so that any frame rate, also a variable one, is treated alike. femae.inference.temporal is the
streaming version with the same results.

Smoothing is a centred weighted mean. A sample dt seconds away has the weight exp(-dt^2 / (2 sigma^2)) - exp(-2) with
sigma = window_s / 2, and 0 from |dt| = window_s = 2 sigma on: a Gaussian shifted down so that it ends without a step
(with a step, jitter of the presentation times would include and exclude samples at the edge from frame to frame). A
window of 0.5 s reaches half a second to either side, and half of the weight lies within 0.14 s. Values are never mixed
across a gap of window_s or longer, and across a shorter one only a little.
"""

import itertools
import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from femae.errors import ConfigError

__all__ = ["bridges", "interpolate_gaps", "lerp", "smooth", "smooth_at", "time_share"]

_Values = npt.NDArray[np.float32]
_Times = npt.NDArray[np.float64]

_TOLERANCE_S = 1e-6  # so that 25 frames of 0.04 s count as one second


def smooth(times_s: _Times, probs: _Values, *, window_s: float) -> _Values:
    """Weighted means f32[T, C] of one face's values; constant values stay constant, window 0 changes nothing.

    times_s: f64[T], ascending (equal times allowed); probs: f32[T, C], one row per time.
    Raises ConfigError for a window that is negative or not a number.
    """
    _check_series(times_s, probs)
    _check_seconds("smoothing window", window_s)
    rows = [smooth_at(times_s, probs, index=index, window_s=window_s) for index in range(len(times_s))]
    return np.stack(rows) if rows else probs.copy()


def smooth_at(times_s: _Times, probs: _Values, *, index: int, window_s: float) -> _Values:
    """One row f32[C] of `smooth`; uses only samples less than `window_s` from times_s[index]."""
    centre: _Values = probs[index]
    if window_s == 0:
        return centre.copy()
    time_s = times_s[index]
    start = int(np.searchsorted(times_s, time_s - window_s, side="right"))
    stop = int(np.searchsorted(times_s, time_s + window_s, side="left"))
    near = probs[min(start, index) : max(stop, index + 1)].astype(np.float64)  # [W, C], always includes row `index`
    offsets = (times_s[min(start, index) : max(stop, index + 1)] - time_s) / window_s
    weights = np.maximum(np.exp(-2.0 * offsets**2) - math.exp(-2.0), 0.0)
    mean = centre.astype(np.float64) + (weights[:, None] * (near - centre)).sum(axis=0) / weights.sum()
    smoothed: _Values = np.clip(mean, near.min(axis=0), near.max(axis=0)).astype(np.float32)
    return smoothed


def interpolate_gaps(
    times_s: _Times,
    probs: _Values,
    known: npt.NDArray[np.bool_],
    *,
    max_gap_s: float,
    ends: Literal["none", "copy"] = "none",
) -> tuple[_Values, npt.NDArray[np.bool_]]:
    """Fill runs of unknown rows by linear interpolation in time.

    times_s: f64[T], ascending; probs: f32[T, C], values of unknown rows are ignored; known: bool[T].
    A run is filled if the known rows on both sides are at most max_gap_s apart (infinity: always, 0: never).
    Before the first and after the last known row nothing is filled, unless ends is "copy": then rows at most
    max_gap_s away from it copy its values. Returns the values f32[T, C] and bool[T], True where they are known now;
    rows that stay unknown are NaN. Raises ConfigError for a gap that is negative or not a number.
    """
    _check_series(times_s, probs)
    _check_seconds("longest gap", max_gap_s)
    assert known.dtype == np.bool_ and known.shape == times_s.shape, f"known: {known.dtype}{known.shape}"
    filled = np.where(known[:, None], probs, np.float32(np.nan))
    now_known = known.copy()
    positions = np.flatnonzero(known)
    for first, last in itertools.pairwise(positions):
        if last - first > 1 and bridges(times_s[first], times_s[last], max_gap_s=max_gap_s):
            for row in range(first + 1, last):
                share = time_share(times_s[row], start_s=times_s[first], stop_s=times_s[last])
                filled[row] = lerp(probs[first], probs[last], share=share)
            now_known[first + 1 : last] = True
    if ends == "copy" and len(positions):
        first, last = positions[0], positions[-1]
        for row in (*range(first), *range(last + 1, len(times_s))):
            nearest = first if row < first else last
            earlier, later = sorted((times_s[row], times_s[nearest]))
            if bridges(earlier, later, max_gap_s=max_gap_s):
                filled[row], now_known[row] = probs[nearest], True
    return filled, now_known


def bridges(earlier_s: float, later_s: float, *, max_gap_s: float) -> bool:
    """Whether a gap between two known samples is short enough to be filled (within 1 us; max_gap_s 0 fills none)."""
    return max_gap_s > 0 and later_s - earlier_s <= max_gap_s + _TOLERANCE_S


def time_share(time_s: float, *, start_s: float, stop_s: float) -> float:
    """Relative position of a time between two others, 0..1; 0 if the two are equal."""
    return float((time_s - start_s) / (stop_s - start_s)) if stop_s > start_s else 0.0


def lerp(start: _Values, stop: _Values, *, share: float) -> _Values:
    """Linear interpolation f32[C] from `start` (share 0) to `stop` (share 1)."""
    begin = start.astype(np.float64)
    return (begin + (stop.astype(np.float64) - begin) * share).astype(np.float32)


def _check_series(times_s: _Times, values: _Values) -> None:
    assert times_s.ndim == 1 and values.ndim == 2 and len(times_s) == len(values), f"{times_s.shape}, {values.shape}"
    assert bool(np.all(np.diff(times_s) >= 0)), "times must ascend"


def _check_seconds(name: str, seconds: float) -> None:
    if not seconds >= 0:
        raise ConfigError(f"the {name} cannot be {seconds} s: expected 0 or more seconds")

"""Hard labels from vote shares: the single emotion, or the pair of emotions, that a face shows.

Metrics such as F1 over six classes need one true class. All rules take shares of the annotators' votes and return -1 if
there is no clear answer; the sample then does not count. `neutral` is the share of the votes for neutral, or, if
unknown, 1 minus the sum of the six (at least 0).

- Top emotion: the largest share, at least 0.3 and above `neutral`. Ties go to the first in the order of
  labels.EMOTIONS, except that two shares of 1 are two labels of one face and give no top emotion.
- Top pair: the two largest shares are a pair of the class set; each is at least 0.3 of the sum of the six, that sum is
  at least 0.4, the second is above the third, and `neutral` is not above the first.

A single class name is a share of 1.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["MIN_CLEAR", "MIN_SHARE", "top_emotion", "top_expression", "top_pair"]

MIN_SHARE = 0.3  # least share of an emotion that a face shows
MIN_CLEAR = 0.6  # least share of none or of a single emotion in top_expression
_MIN_SUM = 0.4  # least sum of the six emotions for a pair
_ROUNDING = 1e-6  # tolerance for float32 shares

Floats = npt.NDArray[np.floating]


def _against(shares: npt.NDArray[np.float64], neutral: Floats | None) -> npt.NDArray[np.float64]:
    if neutral is not None:
        return neutral.astype(np.float64)
    return np.asarray(np.clip(1 - shares.sum(1), 0, None), np.float64)


def top_emotion(
    targets: Floats, *, mask: npt.NDArray[np.bool_] | None = None, neutral: Floats | None = None
) -> npt.NDArray[np.int64]:
    """The top emotion i64[N], -1: none. targets f[N, 6] in 0..1; mask bool[N, 6]: all must be known; neutral f[N]."""
    shares = targets.astype(np.float64)
    top = shares.argmax(1)
    largest = shares.max(1)
    clear = (largest >= MIN_SHARE - _ROUNDING) & (largest > _against(shares, neutral) + _ROUNDING)
    clear &= (shares >= 1 - _ROUNDING).sum(1) < 2
    if mask is not None:
        clear &= mask.all(1)
    return np.asarray(np.where(clear, top, -1), np.int64)


def top_pair(
    targets: Floats,
    *,
    pairs: Sequence[tuple[int, int]],
    mask: npt.NDArray[np.bool_] | None = None,
    neutral: Floats | None = None,
) -> npt.NDArray[np.int64]:
    """The top pair i64[N] as an index in `pairs` (of columns of `targets`), -1: none; arguments as in `top_emotion`."""
    shares = targets.astype(np.float64)
    order = np.argsort(-shares, axis=1, kind="stable")[:, :3]
    first, second, third = np.take_along_axis(shares, order, axis=1).T
    total = shares.sum(1)
    clear = (second >= MIN_SHARE * total - _ROUNDING) & (total >= _MIN_SUM - _ROUNDING)
    clear &= (second > third + _ROUNDING) & (_against(shares, neutral) <= first + _ROUNDING)
    if mask is not None:
        clear &= mask.all(1)
    index_of = np.full((targets.shape[1], targets.shape[1]), -1, np.int64)
    for number, (one, other) in enumerate(pairs):
        index_of[one, other] = index_of[other, one] = number
    return np.asarray(np.where(clear, index_of[order[:, 0], order[:, 1]], -1), np.int64)


def top_expression(
    targets: Floats,
    *,
    pairs: Sequence[tuple[int, int]],
    mask: npt.NDArray[np.bool_] | None = None,
    neutral: Floats | None = None,
) -> npt.NDArray[np.int64]:
    """The annotators' answer i64[N]: 0 none, 1 to 6 an emotion, from 7 on a pair of `pairs`, -1 unclear.

    The top pair if there is one, else none or the emotion with a share of at least MIN_CLEAR. Numbered as
    compound.expression.ExpressionRule.names; arguments as in top_pair.
    """
    shares = targets.astype(np.float64)
    against = _against(shares, neutral)
    pair = top_pair(targets, pairs=pairs, mask=mask, neutral=neutral)
    out = np.where(shares.max(1) >= MIN_CLEAR - _ROUNDING, 1 + shares.argmax(1), -1)
    out = np.where(against >= MIN_CLEAR - _ROUNDING, 0, out)
    out = np.where((shares >= 1 - _ROUNDING).sum(1) >= 2, -1, out)  # two labels of one face
    out = np.where(pair >= 0, 1 + shares.shape[1] + pair, out)
    if mask is not None:
        out = np.where(mask.all(1), out, -1)
    return np.asarray(out, np.int64)

"""Ranking metrics per label: average precision and AUROC.

Average precision needs a positive sample, AUROC a positive and a negative one; without them the value is NaN, never 0.
The values come from scikit-learn. Those of bootstrap draws are computed here for all draws at once, and equal
scikit-learn's with sample weights.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from femae.errors import MissingDependencyError
from femae.metrics.bootstrap import GroupDraws, draw_groups

__all__ = ["auroc", "average_precision", "bootstrap_ranking"]

Floats = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_] | None


def average_precision(probs: Floats, *, targets: Floats, mask: Mask = None) -> npt.NDArray[np.float64]:
    """Average precision f64[C] of probs f[N, C]; targets f[N, C] (present from 0.5 on); mask bool[N, C]: False ignored.

    NaN for a label without a positive sample. Raises MissingDependencyError without scikit-learn.
    """
    return _per_label(_sklearn_metrics().average_precision_score, probs, targets, mask, needs_negative=False)


def auroc(probs: Floats, *, targets: Floats, mask: Mask = None) -> npt.NDArray[np.float64]:
    """Area under the ROC curve f64[C]; arguments as in `average_precision`.

    NaN for a label without a positive or without a negative sample. Raises MissingDependencyError without scikit-learn.
    """
    return _per_label(_sklearn_metrics().roc_auc_score, probs, targets, mask, needs_negative=True)


def _per_label(
    score: Callable[..., float], probs: Floats, targets: Floats, mask: Mask, *, needs_negative: bool
) -> npt.NDArray[np.float64]:
    known = np.ones(targets.shape, np.bool_) if mask is None else mask
    assert probs.shape == targets.shape == known.shape and probs.ndim == 2, (probs.shape, targets.shape, known.shape)
    out = np.full(targets.shape[1], np.nan)
    for column, chosen in enumerate(known.T):
        present = targets[chosen, column] >= 0.5
        if present.any() and not (needs_negative and present.all()):
            out[column] = score(present, probs[chosen, column])
    return out


def bootstrap_ranking(
    probs: Floats,
    *,
    targets: Floats,
    mask: Mask = None,
    draws: GroupDraws,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Average precision and AUROC, f64[num, C] each, over `draws`; other arguments as in `average_precision`.

    NaN where undefined in a draw. Equal arguments give equal draws, those of `bootstrap_f1`.
    """
    known = np.ones(targets.shape, np.bool_) if mask is None else mask
    assert probs.shape == targets.shape == known.shape and probs.ndim == 2, (probs.shape, targets.shape, known.shape)
    codes, group = np.unique(draws.groups, return_inverse=True)
    precision, area = np.full((2, draws.num, targets.shape[1]), np.nan)
    orders = []  # per label: known samples by descending probability, and the last one of each tie
    for column, chosen in enumerate(known.T):
        rows = np.flatnonzero(chosen)
        rows = rows[np.argsort(-probs[rows, column], kind="stable")]
        orders.append((rows, np.flatnonzero(np.diff(probs[rows, column], append=np.nan) != 0)))
    for chunk, times in draw_groups(len(codes), num=draws.num, seed=draws.seed, width=len(probs)):
        for column, (rows, last) in enumerate(orders):
            if len(rows):
                weights = times[:, group[rows]].astype(np.float64)  # [K, n]
                present = targets[rows, column] >= 0.5
                precision[chunk, column], area[chunk, column] = _curve_figures(weights, present, last)
    return precision, area


def _curve_figures(
    weights: npt.NDArray[np.float64], present: npt.NDArray[np.bool_], last: npt.NDArray[np.integer]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Average precision and AUROC f64[K] of sorted samples with weights f64[K, n] and thresholds after `last`."""
    hits = np.cumsum(weights * present, axis=1)[:, last]
    count = np.cumsum(weights, axis=1)[:, last]
    false = count - hits
    positive, negative = hits[:, -1], false[:, -1]
    more_hits, more_false = (np.diff(values, axis=1, prepend=0) for values in (hits, false))
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = (more_hits * hits / np.maximum(count, 1)).sum(1) / positive
        area = (more_false * (hits - more_hits / 2)).sum(1) / (positive * negative)
    return np.where(positive > 0, precision, np.nan), np.where(positive * negative > 0, area, np.nan)


def _sklearn_metrics() -> Any:
    """The module sklearn.metrics. Raises MissingDependencyError if it is not installed."""
    try:
        from sklearn import metrics
    except ImportError as error:
        raise MissingDependencyError(
            "average precision and AUROC need scikit-learn: pip install 'femae[evaluate]'"
        ) from error
    return metrics

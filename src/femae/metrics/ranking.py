"""How well probabilities put the samples with a label before those without: average precision and AUROC, per label.

Neither is a number where its counts make none: average precision needs a positive sample, AUROC a positive and a
negative one. There the value is NaN, never 0. Both are scikit-learn's.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from femae.metrics.sklearn import sklearn_metrics

__all__ = ["auroc", "average_precision"]

Floats = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_] | None


def average_precision(probs: Floats, *, targets: Floats, mask: Mask = None) -> npt.NDArray[np.float64]:
    """f64[C] of probs f[N, C] and targets f[N, C] (present from 0.5 on); mask bool[N, C]: False is not counted.

    NaN for a label without a positive sample. Raises MissingDependencyError without scikit-learn.
    """
    return _per_label(sklearn_metrics().average_precision_score, probs, targets, mask, needs_negative=False)


def auroc(probs: Floats, *, targets: Floats, mask: Mask = None) -> npt.NDArray[np.float64]:
    """Area under the ROC curve f64[C]; arguments as in `average_precision`.

    NaN for a label without a positive or without a negative sample. Raises MissingDependencyError without scikit-learn.
    """
    return _per_label(sklearn_metrics().roc_auc_score, probs, targets, mask, needs_negative=True)


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

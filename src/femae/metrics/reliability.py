"""Do probabilities mean what they say: reliability bins and the expected calibration error (ECE), per label.

The probabilities 0 to 1 are cut into bins of equal width. In each, the mean probability stands beside the mean target;
ECE is the mean of their distance, weighted by the samples of the bin. Targets may be soft: a vote share of 0.3 counts
as 0.3, since that is what a probability trained on shares should say. With targets 0 and 1 it is the usual ECE.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from femae.metrics.bootstrap import bootstrap_sums, group_sums

__all__ = ["Reliability", "bootstrap_ece", "reliability"]

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reliability:
    """The bins of C labels, B bins each; means of an empty bin are NaN."""

    count: npt.NDArray[np.int64]  # i64[C, B]
    mean_prob: npt.NDArray[np.float64]  # f64[C, B]
    mean_target: npt.NDArray[np.float64]  # f64[C, B]

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """f64[B + 1], 0 to 1."""
        return np.linspace(0, 1, self.count.shape[1] + 1)

    @property
    def ece(self) -> npt.NDArray[np.float64]:
        """f64[C]; NaN for a label of which nothing is known."""
        total = self.count.sum(1)
        distance = np.where(self.count > 0, np.abs(self.mean_prob - self.mean_target), 0.0)
        out = (distance * self.count).sum(1) / np.maximum(total, 1)
        return np.asarray(np.where(total > 0, out, np.nan), np.float64)


def reliability(
    probs: Floats, *, targets: Floats, mask: npt.NDArray[np.bool_] | None = None, num_bins: int = 15
) -> Reliability:
    """Bins of probs f[N, C] in 0..1 against targets f[N, C] in 0..1; mask bool[N, C]: False is not counted.

    A probability on an edge belongs to the bin above it, 1 to the last bin.
    """
    known = np.ones(targets.shape, np.bool_) if mask is None else mask
    assert probs.shape == targets.shape == known.shape and probs.ndim == 2, (probs.shape, targets.shape, known.shape)
    num_labels = targets.shape[1]
    row, column = np.nonzero(known)
    chosen = probs[row, column].astype(np.float64)
    place = column * num_bins + _bin_of(chosen, num_bins)
    size = num_labels * num_bins

    def total(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(np.bincount(place, weights=weights, minlength=size), np.float64).reshape(num_labels, num_bins)

    count = np.bincount(place, minlength=size).reshape(num_labels, num_bins)
    with np.errstate(invalid="ignore"):
        mean_prob, mean_target = total(chosen) / count, total(targets[row, column].astype(np.float64)) / count
    return Reliability(count=np.asarray(count, np.int64), mean_prob=mean_prob, mean_target=mean_target)


def _bin_of(probs: Floats, num_bins: int) -> npt.NDArray[np.intp]:
    return np.searchsorted(np.linspace(0, 1, num_bins + 1)[1:-1], probs, side="right")


def bootstrap_ece(
    probs: Floats,
    *,
    targets: Floats,
    groups: npt.NDArray[np.integer],
    mask: npt.NDArray[np.bool_] | None = None,
    num_bins: int = 15,
    num: int = 1000,
    seed: int = 0,
) -> npt.NDArray[np.float64]:
    """ECE f64[num, C] of `num` draws of groups i[N]; NaN where a draw holds no sample of which the label is known."""
    known = np.ones(targets.shape, np.bool_) if mask is None else mask
    num_labels = targets.shape[1]
    codes, group = np.unique(groups, return_inverse=True)
    row, column = np.nonzero(known)
    chosen = probs[row, column].astype(np.float64)
    place = (group[row] * num_labels + column) * num_bins + _bin_of(chosen, num_bins)
    surplus = np.bincount(place, weights=chosen - targets[row, column], minlength=len(codes) * num_labels * num_bins)
    counts = group_sums(known.astype(np.int64), groups=groups)  # [G, C]
    sums = np.concatenate([surplus.reshape(len(codes), -1), counts], axis=1)  # [G, C * B + C]
    totals = bootstrap_sums(sums, num=num, seed=seed)
    distance = np.abs(totals[:, :-num_labels]).reshape(num, num_labels, num_bins).sum(2)
    count = totals[:, -num_labels:]
    return np.asarray(np.where(count > 0, distance / np.maximum(count, 1), np.nan), np.float64)

"""Calibration of probabilities: reliability bins, expected calibration error (ECE), Platt scaling, best thresholds.

The range 0 to 1 is divided into bins of equal width. ECE is the mean distance of mean probability and mean target over
the bins, weighted by their numbers of samples. Targets may be soft: a vote share of 0.3 counts as 0.3, which is what a
model trained on shares should predict. With targets 0 and 1 it is the usual ECE.

Calibration and thresholds are fitted on scores of samples that the model was not trained on. Platt scaling (1999): per
label, the probability becomes sigmoid(scale * logit + offset), with the two parameters that minimise the binary
cross-entropy. As in the paper, targets are moved to (P + 1) / (P + 2) and 1 / (Q + 2) for P positive and Q negative
samples, so that few or perfectly separable samples do not give an infinite scale.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from femae.metrics.bootstrap import GroupDraws, bootstrap_sums, group_sums

__all__ = ["Reliability", "best_thresholds", "bootstrap_ece", "fit_platt", "reliability"]

Floats = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_] | None
_STEPS = 100
_HALVINGS = 30
_SMALL = 1e-10


def fit_platt(
    logits: Floats, targets: Floats, *, mask: Mask = None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Scale f64[C] and offset f64[C] from logits f[N, C] and targets f[N, C] in 0..1; mask bool[N, C]: False unknown.

    A label whose known targets are all 0 or all 1, or that has none, keeps scale 1 and offset 0.
    """
    known = np.ones(targets.shape, np.bool_) if mask is None else mask
    assert logits.shape == targets.shape == known.shape and logits.ndim == 2, (logits.shape, targets.shape)
    scale, offset = np.ones(targets.shape[1]), np.zeros(targets.shape[1])
    for column, chosen in enumerate(known.T):
        target = targets[chosen, column].astype(np.float64)
        positive, negative = float(target.sum()), float((1 - target).sum())
        if positive > 0 and negative > 0:
            low, high = 1 / (negative + 2), (positive + 1) / (positive + 2)
            pair = _fit_one(logits[chosen, column].astype(np.float64), low + (high - low) * target)
            scale[column], offset[column] = pair
    return scale, offset


def _loss(pair: npt.NDArray[np.float64], x: npt.NDArray[np.float64], t: npt.NDArray[np.float64]) -> float:
    z = pair[0] * x + pair[1]
    return float(np.mean(np.logaddexp(0, z) - t * z))


def _fit_one(x: npt.NDArray[np.float64], t: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Newton's method with step halving on a convex function of two parameters."""
    pair = np.array([1.0, 0.0])
    loss = _loss(pair, x, t)
    features = np.stack([x, np.ones_like(x)], axis=1)  # [N, 2]
    for _ in range(_STEPS):
        prob = 1 / (1 + np.exp(-np.clip(features @ pair, -500, 500)))
        gradient = features.T @ (prob - t) / len(x)
        curvature = (features * (prob * (1 - prob))[:, None]).T @ features / len(x)
        step = np.linalg.solve(curvature + _SMALL * np.eye(2), gradient)
        for _ in range(_HALVINGS):
            trial = pair - step
            trial_loss = _loss(trial, x, t)
            if trial_loss <= loss:
                break
            step = step / 2
        else:
            return pair
        if loss - trial_loss < 1e-15 and np.abs(step).max() < _SMALL:
            return np.asarray(trial, np.float64)
        pair, loss = trial, trial_loss
    return pair


def best_thresholds(probs: Floats, targets: Floats, *, mask: Mask = None) -> npt.NDArray[np.float64]:
    """The threshold f64[C] per label with the largest binary F1 (a label is predicted if its probability reaches it).

    probs f[N, C] in 0..1, targets f[N, C] (present from 0.5 on); mask bool[N, C]: False is not counted. The threshold
    is midway between two neighbouring probabilities; ties go to the highest one. 0.5 for a label without a positive
    sample.
    """
    known = np.ones(targets.shape, np.bool_) if mask is None else mask
    assert probs.shape == targets.shape == known.shape and probs.ndim == 2, (probs.shape, targets.shape, known.shape)
    out = np.full(targets.shape[1], 0.5)
    for column, chosen in enumerate(known.T):
        present = targets[chosen, column] >= 0.5
        if not present.any():
            continue
        order = np.argsort(-probs[chosen, column], kind="stable")
        ranked = probs[chosen, column][order].astype(np.float64)
        hits = np.cumsum(present[order])
        f1 = 2 * hits / (np.arange(1, len(hits) + 1) + present.sum())
        below = np.append(ranked[1:], 0.0)
        best = int(np.argmax(np.where((ranked > below) | (np.arange(len(f1)) == len(f1) - 1), f1, -1)))
        out[column] = (ranked[best] + below[best]) / 2
    return out


@dataclass(frozen=True, kw_only=True, slots=True)
class Reliability:
    """B bins for each of C labels; means of an empty bin are NaN."""

    count: npt.NDArray[np.int64]  # i64[C, B]
    mean_prob: npt.NDArray[np.float64]  # f64[C, B]
    mean_target: npt.NDArray[np.float64]  # f64[C, B]

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """Edges of the bins f64[B + 1], 0 to 1."""
        return np.linspace(0, 1, self.count.shape[1] + 1)

    @property
    def ece(self) -> npt.NDArray[np.float64]:
        """Expected calibration error f64[C]; NaN for a label without a known target."""
        total = self.count.sum(1)
        distance = np.where(self.count > 0, np.abs(self.mean_prob - self.mean_target), 0.0)
        out = (distance * self.count).sum(1) / np.maximum(total, 1)
        return np.asarray(np.where(total > 0, out, np.nan), np.float64)


def reliability(
    probs: Floats, *, targets: Floats, mask: npt.NDArray[np.bool_] | None = None, num_bins: int = 15
) -> Reliability:
    """Bins of probs f[N, C] in 0..1 against targets f[N, C] in 0..1; mask bool[N, C]: False is not counted.

    A probability on an edge belongs to the bin above, 1 to the last bin.
    """
    known = np.ones(targets.shape, np.bool_) if mask is None else mask
    assert probs.shape == targets.shape == known.shape and probs.ndim == 2, (probs.shape, targets.shape, known.shape)
    num_labels = targets.shape[1]
    row, column = np.nonzero(known)
    chosen = probs[row, column].astype(np.float64)
    index = column * num_bins + _bin_of(chosen, num_bins)
    size = num_labels * num_bins

    def total(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(np.bincount(index, weights=weights, minlength=size), np.float64).reshape(num_labels, num_bins)

    count = np.bincount(index, minlength=size).reshape(num_labels, num_bins)
    with np.errstate(invalid="ignore"):
        mean_prob, mean_target = total(chosen) / count, total(targets[row, column].astype(np.float64)) / count
    return Reliability(count=np.asarray(count, np.int64), mean_prob=mean_prob, mean_target=mean_target)


def _bin_of(probs: Floats, num_bins: int) -> npt.NDArray[np.intp]:
    return np.searchsorted(np.linspace(0, 1, num_bins + 1)[1:-1], probs, side="right")


def bootstrap_ece(
    probs: Floats,
    *,
    targets: Floats,
    draws: GroupDraws,
    mask: npt.NDArray[np.bool_] | None = None,
    num_bins: int = 15,
) -> npt.NDArray[np.float64]:
    """ECE f64[num, C] over `draws`, otherwise as `reliability`; NaN where a draw has no known target."""
    known = np.ones(targets.shape, np.bool_) if mask is None else mask
    num_labels = targets.shape[1]
    codes, group = np.unique(draws.groups, return_inverse=True)
    row, column = np.nonzero(known)
    chosen = probs[row, column].astype(np.float64)
    index = (group[row] * num_labels + column) * num_bins + _bin_of(chosen, num_bins)
    surplus = np.bincount(index, weights=chosen - targets[row, column], minlength=len(codes) * num_labels * num_bins)
    counts = group_sums(known.astype(np.int64), groups=draws.groups)  # [G, C]
    sums = np.concatenate([surplus.reshape(len(codes), -1), counts], axis=1)  # [G, C * B + C]
    totals = bootstrap_sums(sums, num=draws.num, seed=draws.seed)
    distance = np.abs(totals[:, :-num_labels]).reshape(draws.num, num_labels, num_bins).sum(2)
    count = totals[:, -num_labels:]
    return np.asarray(np.where(count > 0, distance / np.maximum(count, 1), np.nan), np.float64)

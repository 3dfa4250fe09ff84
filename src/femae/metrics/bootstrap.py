"""Bootstrap over groups: how much a metric would vary with other persons or films of the same kind.

Samples of one person or film are correlated, so whole groups are drawn with replacement, never single samples. Metrics
that are functions of sums over samples (F1, accuracy, ECE) need only the sums of each group: all draws are one matrix
product. Ranking metrics (average precision, AUROC) weight each sample by how often its group was drawn.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from femae.metrics.f1 import f1_from_counts

__all__ = ["GroupDraws", "bootstrap_f1", "bootstrap_sums", "draw_groups", "group_sums", "interval"]

_MAX_CHUNK = 4_000_000  # values in memory per chunk of draws


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupDraws:
    """Parameters of bootstrap draws: groups i[N] of the samples, number of draws, seed. Equal ones give equal draws."""

    groups: npt.NDArray[np.integer]
    num: int = 1000
    seed: int = 0


def group_sums(values: npt.NDArray[np.number], *, groups: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Sums f64[G, K] of values [N, K] over the samples of each group; groups i[N], any numbers, in ascending order."""
    codes, place = np.unique(groups, return_inverse=True)
    out = np.zeros((len(codes), values.shape[1]))
    np.add.at(out, place, values)
    return out


def draw_groups(size: int, *, num: int, seed: int, width: int = 0) -> Iterator[tuple[slice, npt.NDArray[np.integer]]]:
    """Yields `num` draws of `size` groups with replacement in chunks: the slice of draws, and counts i[K, G].

    width: values that the caller needs per draw, if more than the groups. The draws depend only on size, num and seed,
    not on the size of the chunks.
    """
    rng = np.random.default_rng(seed)
    step = max(1, _MAX_CHUNK // max(size, width, 1))
    for start in range(0, num if size else 0, step):
        count = min(step, num - start)
        drawn = rng.integers(0, size, (count, size)) + size * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * size).reshape(count, size)
        yield slice(start, start + count), times


def bootstrap_sums(sums: npt.NDArray[np.float64], *, num: int, seed: int) -> npt.NDArray[np.float64]:
    """Totals f64[num, K] of group sums f64[G, K] over `num` draws of G groups with replacement.

    Equal arguments give equal draws.
    """
    out = np.zeros((num, sums.shape[1]))
    for chunk, times in draw_groups(len(sums), num=num, seed=seed):
        out[chunk] = times @ sums
    return out


def bootstrap_f1(
    pred: npt.NDArray[np.integer],
    *,
    true: npt.NDArray[np.integer],
    num_classes: int,
    groups: npt.NDArray[np.integer],
    num: int = 1000,
    seed: int = 0,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """F1 per class f64[num, num_classes] and accuracy f64[num] over `num` draws of groups; pred, true, groups i[N].

    A class that is neither predicted nor present in a draw has an F1 of 0, as in `f1_per_class`.
    """
    classes = np.arange(num_classes)
    predicted, present = pred[:, None] == classes, true[:, None] == classes  # bool[N, C] each
    parts = [predicted & present, predicted.astype(np.int64) + present, np.ones((len(pred), 1))]
    totals = bootstrap_sums(group_sums(np.concatenate(parts, axis=1), groups=groups), num=num, seed=seed)
    hits, both, count = totals[:, :num_classes], totals[:, num_classes:-1], totals[:, -1]
    return f1_from_counts(hits, both=both), hits.sum(1) / np.maximum(count, 1)


def interval(draws: npt.NDArray[np.float64], *, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of draws f64[num] with `level` of them; NaN is ignored, (NaN, NaN) if all are NaN."""
    defined = draws[~np.isnan(draws)]
    if defined.size == 0:
        return float("nan"), float("nan")
    low, high = np.percentile(defined, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)

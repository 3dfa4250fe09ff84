"""The rows of each step, as a function of seed and epoch alone.

With weights, rows are drawn in proportion to them, each the whole number of times just below or above its share;
without, an epoch shows every row exactly once. The order suits streaming from shards: `blocks` says where each block
(a row group) begins; the order of blocks is shuffled, and rows are shuffled within windows of several blocks. Without
weights a window is computed when its steps are due, so that memory does not grow with the number of rows.
"""

from collections import OrderedDict
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from femae.training.loader.rng import mix_seed

__all__ = ["RowStream", "StreamOrder", "epoch_order", "row_weights"]

_WINDOW: Final = 16  # blocks whose rows are shuffled together
_CACHED_WINDOWS: Final = 4  # a step may span several
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def row_weights(targets: npt.NDArray[np.float32], *, balance: float, source_weight: Floats | None = None) -> Floats:
    """Sampling weights f64[N] with mean 1, from `targets` f32[N, C] (unknown ones 0).

    A row's weight is the mean of `column total ** -balance` over the columns, weighted by its targets; what a row's
    targets leave of 1 belongs to a column `none of these`. It is multiplied by source_weight f64[N].
    """
    weights = np.ones(len(targets))
    if balance > 0:
        none = np.clip(1 - targets.sum(1, keepdims=True), 0, 1)
        full = np.concatenate([targets, none], 1).astype(np.float64)
        rarity = np.maximum(full.sum(0), 1) ** -balance
        weights = (full * rarity).sum(1) / np.maximum(full.sum(1), 1e-9)
    if source_weight is not None:
        weights = weights * source_weight
    return np.asarray(weights / weights.mean())


def epoch_order(
    num_rows: int,
    *,
    seed: int,
    epoch: int,
    weights: Floats | None = None,
    blocks: Ints | None = None,
    window: int = _WINDOW,
) -> Ints:
    """Row numbers i64[num_rows] in the order of one epoch.

    `blocks` i64[B + 1], for reading from shards: block b holds the rows blocks[b] to blocks[b + 1] - 1.
    """
    rng = np.random.default_rng(mix_seed(seed, "order", epoch))
    rows = np.arange(num_rows) if weights is None else _systematic_resample(weights, rng)
    if blocks is None:
        return np.asarray(rng.permutation(rows), np.int64)
    shuffled = rng.permutation(len(blocks) - 1)
    position = np.empty_like(shuffled)
    position[shuffled] = np.arange(len(shuffled))
    block_numbers = np.searchsorted(blocks, rows, side="right") - 1
    return np.asarray(rows[np.lexsort((rng.random(len(rows)), position[block_numbers] // window))], np.int64)


class StreamOrder:
    """The result of epoch_order with blocks and without weights, computed one window at a time.

    The rows of a window are sorted by random numbers; the generator is advanced to the number of any row directly.
    """

    def __init__(self, blocks: Ints, *, seed: int, epoch: int, window: int = _WINDOW) -> None:
        rng = np.random.default_rng(mix_seed(seed, "order", epoch))
        self._blocks, self._window = blocks, window
        self._shuffled = rng.permutation(len(blocks) - 1)
        self._state = rng.bit_generator.state
        firsts = np.arange(0, len(self._shuffled), window)
        self._ends = np.cumsum(np.add.reduceat(np.diff(blocks)[self._shuffled], firsts))  # rows up to each window's end
        self._cache: OrderedDict[int, Ints] = OrderedDict()

    def __getitem__(self, positions: slice) -> Ints:
        """Row numbers i64[...] at the positions start to stop - 1 of the epoch, or to its end."""
        parts, position = [], positions.start
        stop = min(positions.stop, int(self._ends[-1]))
        while position < stop:
            window = int(np.searchsorted(self._ends, position, side="right"))
            first = int(self._ends[window - 1]) if window else 0
            part = self._rows(window)[position - first : stop - first]
            parts.append(part)
            position += len(part)
        return np.concatenate(parts)

    def _rows(self, window: int) -> Ints:
        if window not in self._cache:
            if len(self._cache) >= _CACHED_WINDOWS:
                self._cache.popitem(last=False)
            chosen = np.sort(self._shuffled[window * self._window : (window + 1) * self._window])
            spans = list(zip(self._blocks[chosen].tolist(), self._blocks[chosen + 1].tolist(), strict=True))
            rows = np.concatenate([np.arange(start, end) for start, end in spans])
            draws = np.concatenate([self._draw(start, end - start) for start, end in spans])
            self._cache[window] = rows[np.argsort(draws, kind="stable")]
        return self._cache[window]

    def _draw(self, first: int, count: int) -> Floats:
        bits: Any = np.random.PCG64()
        bits.state = self._state
        return np.random.Generator(bits.advance(first)).random(count)


def _systematic_resample(weights: Floats, rng: np.random.Generator) -> Ints:
    """Systematic resampling over rows in random order: i64[N], row i floor or ceil of N * its share times."""
    order = rng.permutation(len(weights))
    cumulated = np.cumsum(weights[order])
    points = (np.arange(len(weights)) + rng.random()) * (cumulated[-1] / len(weights))
    return np.asarray(order[np.minimum(np.searchsorted(cumulated, points), len(weights) - 1)], np.int64)


class RowStream:
    """The epochs' orders in sequence, cut into steps of equal size: a step may extend into the next epoch."""

    def __init__(
        self, num_rows: int, *, batch_size: int, seed: int, weights: Floats | None = None, blocks: Ints | None = None
    ) -> None:
        self._num_rows, self.batch_size, self._seed = num_rows, batch_size, seed
        self._weights, self._blocks = weights, blocks
        self._cache: dict[int, Ints | StreamOrder] = {}

    def first_step(self, epoch: int) -> int:
        """Number of the first step that begins in an epoch (both count from 0)."""
        return -(-epoch * self._num_rows // self.batch_size)

    def epoch(self, step: int) -> float:
        """Epochs completed when a step begins, as a fraction."""
        return step * self.batch_size / self._num_rows

    def rows(self, step: int) -> Ints:
        """Row numbers i64[batch_size] of one step."""
        first = step * self.batch_size
        parts, position = [], first
        while position < first + self.batch_size:
            epoch, start = divmod(position, self._num_rows)
            part = self._order(epoch)[start : start + first + self.batch_size - position]
            parts.append(part)
            position += len(part)
        return np.concatenate(parts)

    def _order(self, epoch: int) -> "Ints | StreamOrder":
        if epoch not in self._cache:
            for old in [cached for cached in self._cache if cached < epoch - 1]:
                del self._cache[old]
            if self._blocks is not None and self._weights is None:
                self._cache[epoch] = StreamOrder(self._blocks, seed=self._seed, epoch=epoch)
            else:
                self._cache[epoch] = epoch_order(
                    self._num_rows, seed=self._seed, epoch=epoch, weights=self._weights, blocks=self._blocks
                )
        return self._cache[epoch]

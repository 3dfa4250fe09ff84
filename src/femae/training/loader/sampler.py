"""Which rows a step takes: a function only of seed and epoch, with no row twice and none missing.

Rows that carry weight are drawn in proportion to it, each the whole number of times just below or above its share, so
an epoch without weights shows every row exactly once. Rows are dealt so that a stream can read them: `blocks` says
where each unit of reading (a row group of a shard) begins; rows are mixed within windows of several units, which are
mixed themselves. Without weights a window is drawn when its steps come, so that nothing is kept for each row.
"""

from collections import OrderedDict
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from femae.training.loader.rng import mix_seed

__all__ = ["RowStream", "StreamOrder", "epoch_order", "row_weights"]

_WINDOW: Final = 16  # units of reading that are mixed with each other
_KEPT: Final = 4  # windows: a step may reach over several
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def row_weights(shown: npt.NDArray[np.float32], *, balance: float, source_weight: Floats | None = None) -> Floats:
    """Weights f64[N] from what each row shows, f32[N, C] (its targets, unknown ones 0).

    A row's weight is the sum of its targets, each times its column's total ** -balance; a row without any counts as
    showing the column `none of these`. With balance 0 all rows weigh the same.
    """
    weights = np.ones(len(shown))
    if balance > 0:
        none = np.clip(1 - shown.sum(1, keepdims=True), 0, 1)
        full = np.concatenate([shown, none], 1).astype(np.float64)
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

    `blocks` i64[B + 1], of a stream: unit b of reading holds the rows blocks[b] to blocks[b + 1] - 1.
    """
    rng = np.random.default_rng(mix_seed(seed, "order", epoch))
    rows = np.arange(num_rows) if weights is None else _systematic(weights, rng)
    if blocks is None:
        return np.asarray(rng.permutation(rows), np.int64)
    shuffled = rng.permutation(len(blocks) - 1)
    place = np.empty_like(shuffled)
    place[shuffled] = np.arange(len(shuffled))
    units = np.searchsorted(blocks, rows, side="right") - 1
    return np.asarray(rows[np.lexsort((rng.random(len(rows)), place[units] // window))], np.int64)


class StreamOrder:
    """epoch_order of a stream without weights, one window at a time: nothing is kept for each row.

    The rows of a window are sorted by numbers drawn for them, which are found without those of the rows before: the
    generator is set forward.
    """

    def __init__(self, blocks: Ints, *, seed: int, epoch: int, window: int = _WINDOW) -> None:
        rng = np.random.default_rng(mix_seed(seed, "order", epoch))
        self._blocks, self._window = blocks, window
        self._shuffled = rng.permutation(len(blocks) - 1)
        self._state = rng.bit_generator.state
        firsts = np.arange(0, len(self._shuffled), window)
        self._ends = np.cumsum(np.add.reduceat(np.diff(blocks)[self._shuffled], firsts))  # rows up to each window's end
        self._known: OrderedDict[int, Ints] = OrderedDict()

    def __getitem__(self, places: slice) -> Ints:
        """Row numbers i64[...] of places start to stop in the epoch, or to its end."""
        parts, place = [], places.start
        stop = min(places.stop, int(self._ends[-1]))
        while place < stop:
            number = int(np.searchsorted(self._ends, place, side="right"))
            first = int(self._ends[number - 1]) if number else 0
            part = self._rows(number)[place - first : stop - first]
            parts.append(part)
            place += len(part)
        return np.concatenate(parts)

    def _rows(self, number: int) -> Ints:
        if number not in self._known:
            if len(self._known) >= _KEPT:
                self._known.popitem(last=False)
            units = np.sort(self._shuffled[number * self._window : (number + 1) * self._window])
            spans = list(zip(self._blocks[units].tolist(), self._blocks[units + 1].tolist(), strict=True))
            rows = np.concatenate([np.arange(start, end) for start, end in spans])
            chances = np.concatenate([self._chances(start, end - start) for start, end in spans])
            self._known[number] = rows[np.argsort(chances, kind="stable")]
        return self._known[number]

    def _chances(self, first: int, count: int) -> Floats:
        bits: Any = np.random.PCG64()
        bits.state = self._state
        return np.random.Generator(bits.advance(first)).random(count)


def _systematic(weights: Floats, rng: np.random.Generator) -> Ints:
    """len(weights) rows, row i floor or ceil of its share times (systematic resampling over rows in random order)."""
    order = rng.permutation(len(weights))
    upto = np.cumsum(weights[order])
    points = (np.arange(len(weights)) + rng.random()) * (upto[-1] / len(weights))
    return np.asarray(order[np.minimum(np.searchsorted(upto, points), len(weights) - 1)], np.int64)


class RowStream:
    """The epochs' orders one after the other, cut into steps of equal size: a step may reach into the next epoch."""

    def __init__(
        self, num_rows: int, *, batch_size: int, seed: int, weights: Floats | None = None, blocks: Ints | None = None
    ) -> None:
        self._num_rows, self.batch_size, self._seed = num_rows, batch_size, seed
        self._weights, self._blocks = weights, blocks
        self._known: dict[int, Ints | StreamOrder] = {}

    def first_step(self, epoch: int) -> int:
        """Number of the first step that begins in an epoch (both from 0)."""
        return -(-epoch * self._num_rows // self.batch_size)

    def epoch(self, step: int) -> float:
        """Epochs done before a step begins."""
        return step * self.batch_size / self._num_rows

    def rows(self, step: int) -> Ints:
        """Row numbers i64[batch_size] of one step."""
        first = step * self.batch_size
        parts, place = [], first
        while place < first + self.batch_size:
            epoch, at = divmod(place, self._num_rows)
            part = self._order(epoch)[at : at + first + self.batch_size - place]
            parts.append(part)
            place += len(part)
        return np.concatenate(parts)

    def _order(self, epoch: int) -> "Ints | StreamOrder":
        if epoch not in self._known:
            for old in [known for known in self._known if known < epoch - 1]:
                del self._known[old]
            if self._blocks is not None and self._weights is None:
                self._known[epoch] = StreamOrder(self._blocks, seed=self._seed, epoch=epoch)
            else:
                self._known[epoch] = epoch_order(
                    self._num_rows, seed=self._seed, epoch=epoch, weights=self._weights, blocks=self._blocks
                )
        return self._known[epoch]

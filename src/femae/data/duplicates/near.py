"""All pairs of 64-bit hashes that differ in a few bits, among millions, exactly.

The bits are cut into `max_distance + k` blocks. Two hashes that differ in at most `max_distance` bits agree in at
least k whole blocks, so for every choice of k blocks the hashes are sorted by these bits and only neighbours of equal
bits are compared. k grows with the number of hashes; with k = 0 all are compared with all.

Samples of one group need no pair: a fold keeps them together anyhow. Frames of a film differ little, so of a group
with many hashes only those are compared that differ in more than 2 bits from the ones before; this is the one place
where a pair can be missed, and only if the hashes differ in more than `max_distance - 4` bits.
"""

from collections.abc import Iterator
from itertools import combinations, pairwise
from math import comb
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["NO_HASH", "near_pairs"]

NO_HASH: Final = 0  # of a flat picture; has no near duplicates
_BITS: Final = 64
_MANY: Final = 64  # hashes in a group, from which on alike ones are compared once
_ALIKE: Final = 2  # bits
_LARGE_CLASS: Final = 32  # groups with one hash
_SORT_COST, _COMPARE_COST = 100.0, 15.0  # ns per hash and per pair, for choosing k only
_CROWDING: Final = 16.0  # hashes of faces fall into the same block so much more often than random ones

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]


def near_pairs(hashes: Hashes, *, max_distance: int, groups: Ints | None = None) -> Ints:
    """u64[N] -> i64[P, 2], positions first < second of samples of different groups with hashes that nearly agree.

    `groups` i64[N]: samples of one number need no pair. Of more than 32 groups with one hash come a chain instead of
    all pairs, and only the first of them is paired with other hashes: enough to join them. Sorted by position.
    """
    assert 0 <= max_distance < _BITS // 2
    labels = np.arange(len(hashes), dtype=np.int64) if groups is None else groups.astype(np.int64)
    real = np.flatnonzero(hashes != NO_HASH)
    order = real[np.lexsort((real, labels[real], hashes[real]))]
    new_item = np.ones(len(order), np.bool_)
    new_item[1:] = (np.diff(hashes[order]) != 0) | (np.diff(labels[order]) != 0)
    order = order[new_item]  # one sample of each hash and group
    classes = _Classes(hashes[order])
    pairs = [classes.within()]
    if max_distance:
        kept = classes.first_of(np.flatnonzero(_thinned(hashes[order], labels[order])))
        for found in _search(hashes[order[kept]], labels[order[kept]], max_distance):
            pairs.append(classes.between(kept[found]))
    joined = order[np.concatenate(pairs)]
    joined = np.sort(joined[labels[joined[:, 0]] != labels[joined[:, 1]]], axis=1)
    return np.unique(joined, axis=0).astype(np.int64)


class _Classes:
    """Items of equal hash in a sorted array: where each class starts and how many it has."""

    def __init__(self, values: Hashes) -> None:
        self._starts = np.flatnonzero(np.append(True, np.diff(values) != 0)[: len(values)]).astype(np.int64)
        self._sizes = np.diff(np.append(self._starts, len(values)))
        self._number = np.repeat(np.arange(len(self._starts)), self._sizes)

    def within(self) -> Ints:
        """Pairs of items of one class: all of them, or a chain in a large class."""
        pairs = [np.zeros((0, 2), np.int64)]
        for start, size in zip(self._starts[self._sizes > 1], self._sizes[self._sizes > 1], strict=True):
            if size > _LARGE_CLASS:
                chain = np.arange(start, start + size - 1)
                pairs.append(np.stack([chain, chain + 1], 1))
            else:
                pairs.append(start + np.argwhere(np.triu(np.ones((size, size), np.bool_), 1)))
        return np.concatenate(pairs)

    def first_of(self, items: Ints) -> Ints:
        """The first of these sorted items in each class."""
        return items[np.unique(self._number[items], return_index=True)[1]]

    def between(self, pairs: Ints) -> Ints:
        """Pairs of items of two classes -> all pairs of these classes; of large classes just the items given."""
        first, second = self._number[pairs[:, 0]], self._number[pairs[:, 1]]
        several = (self._sizes[first] > 1) | (self._sizes[second] > 1)
        several &= (self._sizes[first] <= _LARGE_CLASS) & (self._sizes[second] <= _LARGE_CLASS)
        grown = [pairs]
        for one, other in zip(first[several], second[several], strict=True):
            members = [self._starts[number] + np.arange(self._sizes[number]) for number in (one, other)]
            grown.append(np.stack([np.repeat(members[0], len(members[1])), np.tile(members[1], len(members[0]))], 1))
        return np.concatenate(grown)


def _thinned(values: Hashes, owners: Ints) -> npt.NDArray[np.bool_]:
    """bool[N]: of groups with many hashes, only those that differ from all kept ones before."""
    kept = np.ones(len(values), np.bool_)
    numbers, counts = np.unique(owners, return_counts=True)
    for owner in numbers[counts > _MANY]:
        members = np.flatnonzero(owners == owner)
        leaders = np.empty(len(members), np.uint64)
        count = 0
        for member in members:
            if (np.bitwise_count(leaders[:count] ^ values[member]) <= _ALIKE).any():
                kept[member] = False
            else:
                leaders[count] = values[member]
                count += 1
    return kept


def _search(values: Hashes, owners: Ints, max_distance: int) -> Iterator[Ints]:
    """Positions i64[P, 2] of near pairs, table by table; a pair may come from several."""
    agreeing = _num_agreeing(len(values), max_distance)
    edges = np.linspace(0, _BITS, max_distance + agreeing + 1).round().astype(int)
    blocks = [((1 << int(end)) - 1) ^ ((1 << int(start)) - 1) for start, end in pairwise(edges)]
    for chosen in combinations(blocks, agreeing):
        keys = values & np.uint64(sum(chosen))
        order = np.argsort(keys, kind="stable")
        for first, second in _neighbours(keys[order]):
            one, other = order[first], order[second]
            near = np.bitwise_count(values[one] ^ values[other]) <= max_distance
            near &= owners[one] != owners[other]
            if near.any():
                yield np.stack([one[near], other[near]], 1)


def _num_agreeing(count: int, max_distance: int) -> int:
    """The number of blocks k that costs least time for so many hashes."""

    def cost(k: int) -> float:
        share = min(1.0, _CROWDING * 2.0 ** (-_BITS * k / (max_distance + k)))
        return float(comb(max_distance + k, k) * (_SORT_COST * count + _COMPARE_COST * share * count**2 / 2))

    return min(range(6), key=cost)


def _neighbours(keys: Hashes) -> Iterator[tuple[Ints, Ints]]:
    """All pairs of positions of equal keys in a sorted array, by their distance in it."""
    step = 1
    start = np.flatnonzero(keys[1:] == keys[:-1]).astype(np.int64)
    while start.size:
        yield start, start + step
        step += 1
        start = start[start + step < len(keys)]
        start = start[keys[start] == keys[start + step]]

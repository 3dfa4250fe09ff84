"""Pictures that occur more than once in the data: exact copies, near duplicates, mirrored ones.

Candidates are pairs whose 64-bit perceptual hashes nearly agree. If thumbnails are available, a candidate counts when
they are similar; without them, only hashes that agree more closely count. Imports nothing else of femae.data.

**Hash.** Luma at 32 x 32 -> DCT-II -> the sign of the 64 coefficients with both frequencies from 1 to 8. Coefficients
of frequency 0 in one direction are left out: in aligned faces they contain little but the gradient of the lighting and
the symmetry that all faces share, and hashes with them collide sooner. A flat picture has no hash (`NO_HASH`), so that
black frames are not all duplicates of one another.

**Verification.** `similarity` compares two 32 x 32 thumbnails after subtracting their running mean over 5 pixels, over
shifts of up to 3 pixels. Of 1,259 pairs of different persons in LFW whose hashes differ by 10 bits or less it accepts
17, some of them truly one picture; copies that were compressed, scaled, relit, shifted or cropped by 2 % are accepted
(99 %: 0.80).

The precision of hashes alone depends on the framing of faces: in FER+ nearly all pairs within 8 bits are one picture;
in LFW, which is aligned, few within 6 bits are, and their number grows with the square of the number of pictures. Hence
4 bits without thumbnails. benchmarks/near_duplicates.py has the measurements behind every number here.

**Search**, exact among millions. The bits are cut into `max_distance + k` blocks. Two hashes that differ in at most
`max_distance` bits agree in at least k whole blocks, so for every choice of k blocks the hashes are sorted by these
bits and only hashes with equal bits are compared. k grows with the number of hashes; with k = 0 all are compared with
all.

Samples of one group need no pair: folds keep them together anyway. Frames of a film differ little, so of a group with
many hashes only those are compared that differ in more than 2 bits from the previous ones; only there can a pair be
missed, and only if its hashes differ in more than `max_distance - 4` bits.
"""

from collections.abc import Callable, Iterator
from itertools import combinations, pairwise
from math import comb
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = [
    "HASH_DISTANCE",
    "HASH_DISTANCE_OF_MANY",
    "HASH_ONLY_DISTANCE",
    "NO_HASH",
    "SAME_PICTURE",
    "THUMBNAIL_SIZE",
    "duplicate_pairs",
    "hamming",
    "mirrored_hash",
    "near_pairs",
    "perceptual_hash",
    "similarity",
    "thumbnail",
]

HASH_DISTANCE: Final = 10  # bits; candidates for verification by thumbnails
HASH_DISTANCE_OF_MANY: Final = 8  # bits; the same among MANY pictures, where a search to 10 bits takes long
HASH_ONLY_DISTANCE: Final = 4  # bits; near duplicates without thumbnails
SAME_PICTURE: Final = 0.65  # similarity from which two thumbnails show one picture
THUMBNAIL_SIZE: Final = 32  # pixels a side
_FREQUENCIES: Final = 8
_MIN_STD: Final = 1.0  # standard deviation, of 255; less is flat
_WINDOW: Final = 5  # pixels of the running mean
_MAX_SHIFT: Final = 3  # pixels
_STEPS: Final = (np.arange(THUMBNAIL_SIZE) + 0.5) * np.pi / THUMBNAIL_SIZE
_COSINES: Final = np.cos(np.arange(1, _FREQUENCIES + 1)[:, None] * _STEPS).astype(np.float32)  # f32[8, 32]
NO_HASH: Final = 0  # of a flat picture, which has no near duplicates
_BITS: Final = 64
_LARGE_GROUP: Final = 64  # hashes in a group, above which redundant ones are left out
_REDUNDANT_BITS: Final = 2  # difference up to which a hash of a large group is redundant
_LARGE_CLASS: Final = 32  # groups with one hash
_SORT_COST, _COMPARE_COST = 100.0, 15.0  # ns per hash and per pair, for choosing k only
_CLUSTERING: Final = 16.0  # how much more often hashes of faces agree in a block than random ones
Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
MANY: Final = 200_000  # hashes
_CHUNK: Final = 2048  # pairs compared at once
Thumbnails = Callable[[Ints], npt.NDArray[np.uint8]]


def thumbnail(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """u8[H, W, 3] RGB or u8[H, W] gray -> u8[32, 32] luma."""
    gray = Image.fromarray(image).convert("L")
    return np.asarray(gray.resize((THUMBNAIL_SIZE, THUMBNAIL_SIZE), Image.Resampling.BILINEAR), np.uint8)


def perceptual_hash(image: npt.NDArray[np.uint8]) -> int:
    """u8[H, W, 3] RGB or u8[H, W] gray -> 0 .. 2**64 - 1; NO_HASH for a flat picture."""
    small = thumbnail(image).astype(np.float32)
    if small.std() < _MIN_STD:
        return NO_HASH
    coefficients = _COSINES @ small @ _COSINES.T  # f32[8, 8]
    return int.from_bytes(np.packbits(coefficients > 0).tobytes(), "big") or 1


def mirrored_hash(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Hashes u64[N] of the pictures mirrored left to right: the signs of odd horizontal frequencies change."""
    odd_columns = int.from_bytes(np.packbits([column % 2 == 0 for column in range(_FREQUENCIES)] * _FREQUENCIES), "big")
    return hashes ^ np.uint64(odd_columns)


def hamming(first: npt.NDArray[np.uint64], second: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """Number of differing bits u8[N] of two arrays of hashes u64[N], element by element."""
    return np.asarray(np.bitwise_count(first ^ second), np.uint8)


def similarity(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Thumbnails u8[N, 32, 32] and u8[N, 32, 32] -> f32[N], -1..1; from SAME_PICTURE on they show one picture."""
    a, b = _subtract_local_mean(first), _subtract_local_mean(second)
    size = THUMBNAIL_SIZE - 2 * _MAX_SHIFT
    middle = _normalise(a[:, _MAX_SHIFT : _MAX_SHIFT + size, _MAX_SHIFT : _MAX_SHIFT + size])
    best = np.full(len(a), -1, np.float32)
    for top in range(2 * _MAX_SHIFT + 1):
        for left in range(2 * _MAX_SHIFT + 1):
            shifted = _normalise(b[:, top : top + size, left : left + size])
            best = np.maximum(best, (middle * shifted).sum(1))
    return best


def _subtract_local_mean(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """u8[N, S, S] -> f32[N, S, S] minus the mean of the surrounding 5 x 5 pixels."""
    half = _WINDOW // 2
    values = pictures.astype(np.float32)
    padded = np.pad(values, ((0, 0), (half, half), (half, half)), mode="edge")
    size = values.shape[1]
    rows = np.stack([padded[:, k : k + size, :] for k in range(_WINDOW)]).sum(0)  # f32[N, S, S + 4]
    means = np.stack([rows[:, :, k : k + size] for k in range(_WINDOW)]).mean(0) / _WINDOW
    return np.asarray(values - means, np.float32)


def _normalise(pictures: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """f32[N, S, S] -> f32[N, S * S] with mean 0 and norm 1; flat ones become 0."""
    flat = pictures.reshape(len(pictures), -1)
    flat = flat - flat.mean(1, keepdims=True)
    return np.asarray(flat / (np.linalg.norm(flat, axis=1, keepdims=True) + 1e-6), np.float32)


def near_pairs(hashes: Hashes, *, max_distance: int, groups: Ints | None = None) -> Ints:
    """u64[N] -> i64[P, 2], positions first < second of samples of different groups whose hashes nearly agree, sorted.

    `groups` i64[N]: samples with equal numbers need no pair. More than 32 groups with one hash are linked by a chain
    instead of all pairs, and only the first of them is paired with other hashes: enough to join them.
    """
    assert 0 <= max_distance < _BITS // 2
    labels = np.arange(len(hashes), dtype=np.int64) if groups is None else groups.astype(np.int64)
    real = np.flatnonzero(hashes != NO_HASH)
    order = real[np.lexsort((real, labels[real], hashes[real]))]
    new_item = np.ones(len(order), np.bool_)
    new_item[1:] = (np.diff(hashes[order]) != 0) | (np.diff(labels[order]) != 0)
    order = order[new_item]  # one sample of each hash and group
    classes = _HashClasses(hashes[order])
    pairs = [classes.within()]
    if max_distance:
        kept = classes.first_of(np.flatnonzero(_without_redundant(hashes[order], labels[order])))
        for found in _search(hashes[order[kept]], labels[order[kept]], max_distance):
            pairs.append(classes.between(kept[found]))
    joined = order[np.concatenate(pairs)]
    joined = np.sort(joined[labels[joined[:, 0]] != labels[joined[:, 1]]], axis=1)
    return np.unique(joined, axis=0).astype(np.int64)


class _HashClasses:
    """Classes of equal hashes in a sorted array: the start and the size of each class."""

    def __init__(self, values: Hashes) -> None:
        self._starts = np.flatnonzero(np.append(True, np.diff(values) != 0)[: len(values)]).astype(np.int64)
        self._sizes = np.diff(np.append(self._starts, len(values)))
        self._number = np.repeat(np.arange(len(self._starts)), self._sizes)

    def within(self) -> Ints:
        """Pairs of items within a class: all of them, or a chain in a large class."""
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
        """Pairs of items of two classes -> all pairs between these classes; of large classes only the given items."""
        first, second = self._number[pairs[:, 0]], self._number[pairs[:, 1]]
        expandable = (self._sizes[first] > 1) | (self._sizes[second] > 1)
        expandable &= (self._sizes[first] <= _LARGE_CLASS) & (self._sizes[second] <= _LARGE_CLASS)
        expanded = [pairs]
        for one, other in zip(first[expandable], second[expandable], strict=True):
            a, b = (self._starts[number] + np.arange(self._sizes[number]) for number in (one, other))
            expanded.append(np.stack([np.repeat(a, len(b)), np.tile(b, len(a))], 1))
        return np.concatenate(expanded)


def _without_redundant(values: Hashes, owners: Ints) -> npt.NDArray[np.bool_]:
    """bool[N]: False for hashes of large groups that nearly agree with a kept one before them."""
    kept = np.ones(len(values), np.bool_)
    numbers, counts = np.unique(owners, return_counts=True)
    for owner in numbers[counts > _LARGE_GROUP]:
        members = np.flatnonzero(owners == owner)
        leaders = np.empty(len(members), np.uint64)
        count = 0
        for member in members:
            if (np.bitwise_count(leaders[:count] ^ values[member]) <= _REDUNDANT_BITS).any():
                kept[member] = False
            else:
                leaders[count] = values[member]
                count += 1
    return kept


def _search(values: Hashes, owners: Ints, max_distance: int) -> Iterator[Ints]:
    """Yield positions i64[P, 2] of near pairs for each choice of blocks; a pair may occur several times."""
    agreeing = _num_agreeing(len(values), max_distance)
    edges = np.linspace(0, _BITS, max_distance + agreeing + 1).round().astype(int)
    blocks = [((1 << int(end)) - 1) ^ ((1 << int(start)) - 1) for start, end in pairwise(edges)]
    for chosen in combinations(blocks, agreeing):
        keys = values & np.uint64(sum(chosen))
        order = np.argsort(keys, kind="stable")
        for first, second in _equal_pairs(keys[order]):
            one, other = order[first], order[second]
            near = np.bitwise_count(values[one] ^ values[other]) <= max_distance
            near &= owners[one] != owners[other]
            if near.any():
                yield np.stack([one[near], other[near]], 1)


def _num_agreeing(count: int, max_distance: int) -> int:
    """The number of blocks k with the lowest estimated time for `count` hashes."""

    def cost(k: int) -> float:
        share = min(1.0, _CLUSTERING * 2.0 ** (-_BITS * k / (max_distance + k)))
        return float(comb(max_distance + k, k) * (_SORT_COST * count + _COMPARE_COST * share * count**2 / 2))

    return min(range(6), key=cost)


def _equal_pairs(keys: Hashes) -> Iterator[tuple[Ints, Ints]]:
    """Yield all pairs of positions with equal keys in a sorted array, by their distance."""
    step = 1
    start = np.flatnonzero(keys[1:] == keys[:-1]).astype(np.int64)
    while start.size:
        yield start, start + step
        step += 1
        start = start[start + step < len(keys)]
        start = start[keys[start] == keys[start + step]]


def duplicate_pairs(
    hashes: npt.NDArray[np.uint64],
    *,
    groups: Ints | None = None,
    thumbnails: Thumbnails | None = None,
    max_distance: int | None = None,
) -> Ints:
    """u64[N] -> i64[P, 2], positions first < second of duplicates (upright or mirrored) in different groups, sorted.

    `thumbnails` returns u8[K, 32, 32] (see `thumbnail`) for K different positions; without it hashes alone decide.
    `max_distance` in bits; by default 10 with thumbnails (8 from 200,000 hashes on, for time) and 4 without.
    """
    if max_distance is None:
        verified = HASH_DISTANCE if len(hashes) < MANY else HASH_DISTANCE_OF_MANY
        max_distance = HASH_ONLY_DISTANCE if thumbnails is None else verified
    upright = near_pairs(hashes, max_distance=max_distance, groups=groups)
    mirrored = _mirrored_pairs(hashes, max_distance=max_distance, groups=groups)
    if thumbnails is not None:
        wanted = np.unique(np.concatenate([upright, mirrored]))
        pictures = thumbnails(wanted) if wanted.size else np.zeros((0, THUMBNAIL_SIZE, THUMBNAIL_SIZE), np.uint8)
        upright = _filter_similar(upright, wanted, pictures, mirror=False)
        mirrored = _filter_similar(mirrored, wanted, pictures, mirror=True)
    return np.unique(np.concatenate([upright, mirrored]), axis=0)


def _mirrored_pairs(hashes: npt.NDArray[np.uint64], *, max_distance: int, groups: Ints | None) -> Ints:
    """Pairs in which one hash nearly agrees with that of the other's mirror image."""
    count = len(hashes)
    labels = np.arange(count, dtype=np.int64) if groups is None else groups
    mirrors = np.where(hashes == NO_HASH, np.uint64(NO_HASH), mirrored_hash(hashes))
    both = near_pairs(
        np.concatenate([hashes, mirrors]), max_distance=max_distance, groups=np.concatenate([labels, labels])
    )
    both = both[(both[:, 0] < count) & (both[:, 1] >= count)] - np.array([0, count])
    return np.unique(np.sort(both, axis=1), axis=0)


def _filter_similar(pairs: Ints, positions: Ints, pictures: npt.NDArray[np.uint8], *, mirror: bool) -> Ints:
    """The pairs whose thumbnails show one picture. `pictures` u8[K, 32, 32] belong to the sorted `positions`."""
    kept = []
    for start in range(0, len(pairs), _CHUNK):
        chunk = pairs[start : start + _CHUNK]
        first, second = (pictures[np.searchsorted(positions, chunk[:, side])] for side in (0, 1))
        kept.append(chunk[similarity(first, second[:, :, ::-1] if mirror else second) >= SAME_PICTURE])
    return np.concatenate(kept) if kept else pairs

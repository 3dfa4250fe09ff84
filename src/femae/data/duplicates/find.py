"""Pictures that stand in the data more than once: exact copies, near duplicates, mirrored ones.

Candidates are pairs whose perceptual hashes nearly agree. Where there are thumbnails to look at, a pair counts if these
are similar; where there are none, only hashes that agree more closely count. phash.py says what is measured.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from femae.data.duplicates.near import NO_HASH, near_pairs
from femae.data.duplicates.phash import (
    HASH_DISTANCE,
    HASH_DISTANCE_OF_MANY,
    HASH_ONLY_DISTANCE,
    SAME_PICTURE,
    THUMBNAIL_SIZE,
    mirrored_hash,
    similarity,
)

__all__ = ["duplicate_pairs"]

MANY: Final = 200_000  # hashes
_CHUNK: Final = 2048  # pairs compared at once

Ints = npt.NDArray[np.int64]
Thumbnails = Callable[[Ints], npt.NDArray[np.uint8]]


def duplicate_pairs(
    hashes: npt.NDArray[np.uint64],
    *,
    groups: Ints | None = None,
    thumbnails: Thumbnails | None = None,
    max_distance: int | None = None,
) -> Ints:
    """u64[N] -> i64[P, 2], positions first < second of pictures that are one picture, of different groups.

    `thumbnails` gives u8[K, 32, 32] (phash.thumbnail) for K different positions; without it hashes alone decide.
    `max_distance` in bits; by default 10 with thumbnails (8 from 200,000 hashes on, for time) and 4 without.
    """
    if max_distance is None:
        closer = HASH_DISTANCE if len(hashes) < MANY else HASH_DISTANCE_OF_MANY
        max_distance = HASH_ONLY_DISTANCE if thumbnails is None else closer
    upright = near_pairs(hashes, max_distance=max_distance, groups=groups)
    mirrored = _mirrored_pairs(hashes, max_distance=max_distance, groups=groups)
    if thumbnails is not None:
        wanted = np.unique(np.concatenate([upright, mirrored]))
        pictures = thumbnails(wanted) if wanted.size else np.zeros((0, THUMBNAIL_SIZE, THUMBNAIL_SIZE), np.uint8)
        upright = _similar(upright, wanted, pictures, mirror=False)
        mirrored = _similar(mirrored, wanted, pictures, mirror=True)
    return np.unique(np.concatenate([upright, mirrored]), axis=0)


def _mirrored_pairs(hashes: npt.NDArray[np.uint64], *, max_distance: int, groups: Ints | None) -> Ints:
    """Pairs of which one nearly agrees with the mirror image of the other."""
    count = len(hashes)
    labels = np.arange(count, dtype=np.int64) if groups is None else groups
    mirrors = np.where(hashes == NO_HASH, np.uint64(NO_HASH), mirrored_hash(hashes))
    both = near_pairs(
        np.concatenate([hashes, mirrors]), max_distance=max_distance, groups=np.concatenate([labels, labels])
    )
    both = both[(both[:, 0] < count) & (both[:, 1] >= count)] - np.array([0, count])
    return np.unique(np.sort(both, axis=1), axis=0)


def _similar(pairs: Ints, positions: Ints, pictures: npt.NDArray[np.uint8], *, mirror: bool) -> Ints:
    """The pairs whose thumbnails show one picture. `pictures` belong to the sorted `positions`."""
    kept = []
    for start in range(0, len(pairs), _CHUNK):
        chunk = pairs[start : start + _CHUNK]
        first, second = (pictures[np.searchsorted(positions, chunk[:, side])] for side in (0, 1))
        kept.append(chunk[similarity(first, second[:, :, ::-1] if mirror else second) >= SAME_PICTURE])
    return np.concatenate(kept) if kept else pairs

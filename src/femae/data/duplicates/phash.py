"""A 64-bit perceptual hash, and a closer look at two pictures that it calls alike.

**Hash.** Luma at 32 x 32 -> DCT-II -> the sign of the 64 coefficients with both frequencies from 1 to 8. Coefficients
of frequency 0 in one direction are left out: in aligned faces they hold little but the light's gradient and the
symmetry that all faces share, and hashes with them collide sooner. A flat picture has no hash (`NO_HASH`), so that
black frames are not all duplicates of one another.

**Closer look.** `similarity` compares two 32 x 32 thumbnails after taking away their running mean over 5 pixels, over
shifts of up to 3 pixels. Of 1,259 pairs of different persons in LFW whose hashes differ by 10 bits or less it lets 17
pass, some of them truly one picture; copies that were compressed, scaled, lit, moved or cut by 2 % pass (99 %: 0.80).

Hashes alone are a matter of how faces are framed: in FER+ nearly all pairs within 8 bits are one picture, in LFW,
which is aligned, few within 6 are, and their number grows with the square of the number of pictures. Hence 4 bits
where there are no pictures to look at. benchmarks/near_duplicates.py has the figures behind every number here.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from femae.data.duplicates.near import NO_HASH, near_pairs

__all__ = [
    "HASH_DISTANCE",
    "HASH_DISTANCE_OF_MANY",
    "HASH_ONLY_DISTANCE",
    "NO_HASH",
    "SAME_PICTURE",
    "THUMBNAIL_SIZE",
    "hamming",
    "mirrored_hash",
    "near_pairs",
    "perceptual_hash",
    "similarity",
    "thumbnail",
]

HASH_DISTANCE: Final = 10  # bits; candidates for a closer look
HASH_DISTANCE_OF_MANY: Final = 8  # bits; the same among very many pictures, where a search to 10 bits takes long
HASH_ONLY_DISTANCE: Final = 4  # bits; near duplicates where there are no pictures to look at
SAME_PICTURE: Final = 0.65  # similarity from which two thumbnails show one picture
THUMBNAIL_SIZE: Final = 32  # pixels a side
_FREQUENCIES: Final = 8
_MIN_STD: Final = 1.0  # of 255; less is flat
_WINDOW: Final = 5  # pixels of the running mean
_MAX_SHIFT: Final = 3  # pixels

_STEPS: Final = (np.arange(THUMBNAIL_SIZE) + 0.5) * np.pi / THUMBNAIL_SIZE
_COSINES: Final = np.cos(np.arange(1, _FREQUENCIES + 1)[:, None] * _STEPS).astype(np.float32)  # f32[8, 32]


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
    """Hashes of the pictures turned left to right: the signs of the odd frequencies along a row change."""
    odd_columns = int.from_bytes(np.packbits([column % 2 == 0 for column in range(_FREQUENCIES)] * _FREQUENCIES), "big")
    return hashes ^ np.uint64(odd_columns)


def hamming(first: npt.NDArray[np.uint64], second: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """Number of differing bits of two arrays of hashes, element by element."""
    return np.asarray(np.bitwise_count(first ^ second), np.uint8)


def similarity(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Thumbnails u8[N, 32, 32] and u8[N, 32, 32] -> f32[N], -1..1; from SAME_PICTURE on they show one picture."""
    a, b = _without_mean(first), _without_mean(second)
    size = THUMBNAIL_SIZE - 2 * _MAX_SHIFT
    middle = _unit(a[:, _MAX_SHIFT : _MAX_SHIFT + size, _MAX_SHIFT : _MAX_SHIFT + size])
    best = np.full(len(a), -1, np.float32)
    for top in range(2 * _MAX_SHIFT + 1):
        for left in range(2 * _MAX_SHIFT + 1):
            moved = _unit(b[:, top : top + size, left : left + size])
            best = np.maximum(best, (middle * moved).sum(1))
    return best


def _without_mean(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """u8[N, S, S] -> f32[N, S, S] less the mean of the 5 x 5 pixels around."""
    half = _WINDOW // 2
    values = pictures.astype(np.float32)
    padded = np.pad(values, ((0, 0), (half, half), (half, half)), mode="edge")
    size = values.shape[1]
    rows = np.stack([padded[:, k : k + size, :] for k in range(_WINDOW)]).sum(0)  # f32[N, S, S + 4]
    means = np.stack([rows[:, :, k : k + size] for k in range(_WINDOW)]).mean(0) / _WINDOW
    return np.asarray(values - means, np.float32)


def _unit(pictures: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """f32[N, S, S] -> f32[N, S * S] of mean 0 and length 1; flat ones become 0."""
    flat = pictures.reshape(len(pictures), -1)
    flat = flat - flat.mean(1, keepdims=True)
    return np.asarray(flat / (np.linalg.norm(flat, axis=1, keepdims=True) + 1e-6), np.float32)

"""Counter-based random numbers, a function of seed, step, picture and purpose: a run resumes at any step.

There is no generator state: each number is a hash of the step's seed, the picture's position in the step, its purpose,
and its own index. So numbers are drawn on the device that uses them, each process draws only those of its own pictures,
and one process with a batch of 64 and two with 32 each train on the same pictures with the same augmentations. The
integers are the same on every device; floating-point functions of them (logarithms, sines) may differ in the last bits.
"""

import hashlib
import math
from enum import IntEnum
from functools import cache
from typing import Final, Self

import torch

__all__ = ["DrawPurpose", "RandomKeys", "beta_quantiles", "mix_seed", "normals", "uniforms"]

_GOLDEN: Final = 0x9E3779B97F4A7C15 - (1 << 64)  # as a signed 64-bit integer
_MIX: Final = (0xBF58476D1CE4E5B9 - (1 << 64), 0x94D049BB133111EB - (1 << 64))
_MIX32: Final = (0x7FEB352D, 0x846CA68B - (1 << 32))
_QUANTILES: Final = 1 << 14


class DrawPurpose(IntEnum):
    """What random numbers are drawn for; each purpose has an independent sequence."""

    AUGMENT = 1
    NOISE = 2
    MASK = 3
    MIXUP = 4
    MEMBER = 5
    PATHS = 6


def mix_seed(*parts: int | str) -> int:
    """A 63-bit seed hashed from any parts, e.g. (run's seed, "augment", step)."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def _signed(number: int) -> int:
    """The lower 64 bits as a signed integer."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _split_mix(x: torch.Tensor) -> torch.Tensor:
    """The finaliser of SplitMix64 (Steele et al. 2014), i64 -> i64: every output bit depends on every input bit."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * _MIX[0]
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * _MIX[1]
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def _random_words(keys: torch.Tensor, purpose: int, count: int) -> torch.Tensor:
    """keys i64[B] -> i32[B, count] of random bits: hashes of a sequence with each picture's own offset and slope."""
    line = _split_mix(keys + _signed(purpose * _GOLDEN)).view(torch.int32).view(-1, 2)  # [B, 2]
    index = torch.arange(count, dtype=torch.int32, device=keys.device)
    x = torch.addcmul(line[:, :1], line[:, 1:] | 1, index[None])  # [B, count]
    x ^= (x >> 16) & 0xFFFF
    x *= _MIX32[0]
    x ^= (x >> 15) & 0x1FFFF
    x *= _MIX32[1]
    x ^= (x >> 16) & 0xFFFF
    return x


def uniforms(keys: torch.Tensor, purpose: int, *shape: int) -> torch.Tensor:
    """keys i64[B] -> float[B, *shape], uniform in the open interval (0, 1), odd multiples of 2 ** -24."""
    words = _random_words(keys, purpose, math.prod(shape))
    return (((words >> 9) & 0x7FFFFF).float().add_(0.5).mul_(2.0**-23)).view(len(keys), *shape)


def normals(keys: torch.Tensor, purpose: int, *shape: int) -> torch.Tensor:
    """keys i64[B] -> float[B, *shape], standard normal with 16 bits each (65,536 values, at most 4.32 from 0)."""
    count = math.prod(shape)
    words = _random_words(keys, purpose, -(-count // 2)).view(torch.int16)[:, :count]
    return torch.erfinv(words.float().add_(0.5).mul_(2.0**-15)).mul_(math.sqrt(2)).view(len(keys), *shape)


@cache
def beta_quantiles(alpha: float, device: torch.device) -> torch.Tensor:
    """float[16385]: quantiles of Beta(alpha, alpha) at equally spaced probabilities from 0 to 1."""
    from scipy.special import betaincinv

    steps = torch.arange(_QUANTILES + 1, dtype=torch.float64) / _QUANTILES
    return torch.from_numpy(betaincinv(alpha, alpha, steps.numpy())).float().to(device)


class RandomKeys:
    """Random numbers for the pictures `first` to `first + count - 1` of a step, on a device."""

    def __init__(self, seed: int, *, count: int, first: int = 0, device: torch.device | str = "cpu") -> None:
        self._seed = seed
        pictures = torch.arange(first, first + count, dtype=torch.int64, device=device)
        self.keys = _split_mix(pictures * _GOLDEN + seed)  # i64[count]

    @classmethod
    def of(cls, seed: int, places: torch.Tensor) -> Self:
        """Keys of arbitrary pictures, places i64[count], e.g. their row numbers."""
        draws = cls(seed, count=0, device=places.device)
        draws.keys = _split_mix(places * _GOLDEN + seed)
        return draws

    def uniform(self, purpose: DrawPurpose, *shape: int) -> torch.Tensor:
        """float[count, *shape], uniform in (0, 1)."""
        return uniforms(self.keys, purpose, *shape)

    def one(self, purpose: DrawPurpose) -> float:
        """One uniform number in 0..1 for the whole step, computed on the host."""
        return mix_seed(self._seed, "one", int(purpose)) / 2**63

    @staticmethod
    def beta(number: torch.Tensor, alpha: float) -> torch.Tensor:
        """Uniform float[...] in 0..1 -> float[...], Beta(alpha, alpha) by linear interpolation of its quantiles."""
        table = beta_quantiles(alpha, number.device)
        position = number * _QUANTILES
        below = position.long().clamp_(max=_QUANTILES - 1)
        return torch.lerp(table[below], table[below + 1], position - below)

"""Randomness as a function of seed, step, picture and purpose: a run can resume at any step, however divided.

Numbers come from a counter, not from a generator with a state: each is a hash of the step's seed, the picture's place
in the step, what it is for, and its own index. So they are drawn where they are used, on the accelerator, a process
draws those of its own pictures alone, and one process with a batch of 64 and two with 32 each train on the same
pictures, changed in the same way. The whole numbers are the same on every device; what a device makes of them by its
own arithmetic (logarithms, sines) may differ in the last bits.
"""

import hashlib
import math
from enum import IntEnum
from functools import cache
from typing import Final, Self

import torch

__all__ = ["DrawPurpose", "RandomKeys", "beta_quantiles", "mix_seed", "normals", "uniforms"]

_GOLDEN: Final = 0x9E3779B97F4A7C15 - (1 << 64)  # signed, as torch reckons
_MIX: Final = (0xBF58476D1CE4E5B9 - (1 << 64), 0x94D049BB133111EB - (1 << 64))
_MIX32: Final = (0x7FEB352D, 0x846CA68B - (1 << 32))
_QUANTILES: Final = 1 << 14


class DrawPurpose(IntEnum):
    """What random numbers are drawn for; each purpose has a sequence of its own."""

    AUGMENT = 1
    NOISE = 2
    MASK = 3
    MIXUP = 4
    MEMBER = 5
    PATHS = 6


def mix_seed(*parts: int | str) -> int:
    """A seed of 63 bits from any parts, e.g. (run's seed, "augment", step)."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def _signed(number: int) -> int:
    """The lower 64 bits as a signed number."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _split_mix(x: torch.Tensor) -> torch.Tensor:
    """i64 -> i64 of which every bit depends on every bit (the finaliser of SplitMix64; Steele et al. 2014)."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * _MIX[0]
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * _MIX[1]
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def _words(keys: torch.Tensor, place: int, count: int) -> torch.Tensor:
    """i64[B] -> i32[B, count], all bits random: a line with a slope and an offset of the picture's own, then mixed."""
    line = _split_mix(keys + _signed(place * _GOLDEN)).view(torch.int32).view(-1, 2)  # [B, 2]
    index = torch.arange(count, dtype=torch.int32, device=keys.device)
    x = torch.addcmul(line[:, :1], line[:, 1:] | 1, index[None])  # [B, count]
    x ^= (x >> 16) & 0xFFFF
    x *= _MIX32[0]
    x ^= (x >> 15) & 0x1FFFF
    x *= _MIX32[1]
    x ^= (x >> 16) & 0xFFFF
    return x


def uniforms(keys: torch.Tensor, place: int, *shape: int) -> torch.Tensor:
    """keys i64[B] -> float[B, *shape] between 0 and 1 (neither is reached), odd multiples of 2 ** -24."""
    words = _words(keys, place, math.prod(shape))
    return (((words >> 9) & 0x7FFFFF).float().add_(0.5).mul_(2.0**-23)).view(len(keys), *shape)


def normals(keys: torch.Tensor, place: int, *shape: int) -> torch.Tensor:
    """keys i64[B] -> float[B, *shape], standard normal, of 65,536 values up to 4.2; two of each word."""
    count = math.prod(shape)
    words = _words(keys, place, -(-count // 2)).view(torch.int16)[:, :count]
    return torch.erfinv(words.float().add_(0.5).mul_(2.0**-15)).mul_(math.sqrt(2)).view(len(keys), *shape)


@cache
def beta_quantiles(alpha: float, device: torch.device) -> torch.Tensor:
    """float[16385] of Beta(alpha, alpha) at equal steps of probability from 0 to 1."""
    from scipy.special import betaincinv

    steps = torch.arange(_QUANTILES + 1, dtype=torch.float64) / _QUANTILES
    return torch.from_numpy(betaincinv(alpha, alpha, steps.numpy())).float().to(device)


class RandomKeys:
    """Random numbers for pictures `first` to `first + count` of a step, on a device."""

    def __init__(self, seed: int, *, count: int, first: int = 0, device: torch.device | str = "cpu") -> None:
        self._seed = seed
        pictures = torch.arange(first, first + count, dtype=torch.int64, device=device)
        self.keys = _split_mix(pictures * _GOLDEN + seed)  # i64[count]

    @classmethod
    def of(cls, seed: int, places: torch.Tensor) -> Self:
        """For pictures anywhere, places i64[count], e.g. the numbers of their rows."""
        draws = cls(seed, count=0, device=places.device)
        draws.keys = _split_mix(places * _GOLDEN + seed)
        return draws

    def uniform(self, place: DrawPurpose, *shape: int) -> torch.Tensor:
        """float[count, *shape] between 0 and 1."""
        return uniforms(self.keys, place, *shape)

    def one(self, place: DrawPurpose) -> float:
        """One number in 0..1 for the whole step, known to the host without asking the device."""
        return mix_seed(self._seed, "one", int(place)) / 2**63

    @staticmethod
    def beta(chance: torch.Tensor, alpha: float) -> torch.Tensor:
        """float[...] in 0..1 -> the quantiles of Beta(alpha, alpha) at them, linear between 16,385 known ones."""
        table = beta_quantiles(alpha, chance.device)
        place = chance * _QUANTILES
        below = place.long().clamp_(max=_QUANTILES - 1)
        return torch.lerp(table[below], table[below + 1], place - below)

"""Randomness as a function of seed, step and place in the step: any run can be taken up at any step.

The numbers of a whole step are drawn on every process, and each process takes those of its own pictures. So one
process with a batch of 64 and two with 32 each train on the same pictures, changed in the same way.
"""

import hashlib

import torch

__all__ = ["Draws", "mix_seed"]


def mix_seed(*parts: int | str) -> int:
    """A seed of 63 bits from any parts, e.g. (run's seed, "augment", step)."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


class Draws:
    """Numbers for pictures `first` to `first + count` of the `total` pictures of a step."""

    def __init__(self, seed: int, *, total: int, first: int = 0, count: int | None = None) -> None:
        self.count = total - first if count is None else count
        self._total, self._first = total, first
        self._shared = torch.Generator().manual_seed(seed)
        self._own = torch.Generator().manual_seed(mix_seed(seed, "own", first))

    def uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        """float[count, *shape] in low..high."""
        drawn = torch.empty(self._total, *shape).uniform_(low, high, generator=self._shared)
        return drawn[self._first : self._first + self.count]

    def chance(self, probability: float) -> torch.Tensor:
        """bool[count], True with this probability."""
        return self.uniform(0, 1) < probability

    def one(self) -> float:
        """One number in 0..1 for the whole step."""
        return float(torch.rand((), generator=self._shared))

    def beta(self, alpha: float) -> torch.Tensor:
        """float[count] of Beta(alpha, alpha)."""
        gammas = torch.empty(self._total, 2, dtype=torch.float64)
        gammas = torch._standard_gamma(gammas.fill_(alpha), generator=self._shared).clamp(min=1e-30)
        return (gammas[:, 0] / gammas.sum(1)).float()[self._first : self._first + self.count]

    def normal(self, *shape: int) -> torch.Tensor:
        """float[count, *shape], standard normal. The only numbers that depend on how a step is divided."""
        return torch.randn(self.count, *shape, generator=self._own)

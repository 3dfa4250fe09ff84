"""Mixup of pictures and labels (Zhang et al. 2018) for soft multi-label targets, some of them unknown.

A mixed label is known where both are. `compound_share` of the pairs can be drawn so that the strongest emotions of both
faces form one of the seven compounds: the mixture is then an example of a compound without an annotation.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final

import torch

from femae.config.train import MixupConfig
from femae.labels import ABAW_COMPOUNDS, EMOTIONS
from femae.training.loader.rng import DrawPurpose, RandomKeys

__all__ = ["Mix", "compound_pairs", "draw_mix"]

_NUM: Final = len(EMOTIONS)


@cache
def compound_pairs(device: torch.device | str = "cpu") -> torch.Tensor:
    """bool[6, 6]: whether two emotions form one of the seven compounds."""
    table = torch.zeros(_NUM, _NUM, dtype=torch.bool)
    for compound in ABAW_COMPOUNDS:
        first, second = (EMOTIONS.index(emotion) for emotion in compound.pair)
        table[first, second] = table[second, first] = True
    return table.to(device)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mix:
    """How a batch is mixed: picture i becomes lam[i] of itself and 1 - lam[i] of picture partner[i]."""

    partner: torch.Tensor  # i64[B]
    lam: torch.Tensor  # float[B]
    halves: bool = False  # join half pictures instead of blending; lam is 0.5 then, 1 for pictures left unchanged

    def pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """float[B, C, S, S] -> mixed float[B, C, S, S]."""
        if self.halves:
            half, is_mixed = pixels.shape[3] // 2, (self.lam < 1)[:, None, None, None]
            right = torch.where(is_mixed, pixels[self.partner][..., half:], pixels[..., half:])
            return torch.cat([pixels[..., :half], right], 3)
        return torch.lerp(pixels[self.partner], pixels, self.lam.to(pixels)[:, None, None, None])

    def targets(self, targets: torch.Tensor) -> torch.Tensor:
        """float[B, C] -> mixed float[B, C]."""
        return torch.lerp(targets[self.partner], targets, self.lam.to(targets)[:, None])

    def mask(self, mask: torch.Tensor) -> torch.Tensor:
        """bool[B, C] -> bool[B, C]: known where both are, or where nothing is mixed in."""
        return mask & (mask[self.partner] | (self.lam == 1)[:, None])


def draw_mix(
    targets: torch.Tensor, mask: torch.Tensor, config: MixupConfig, *, draws: RandomKeys, progress: float
) -> Mix | None:
    """Draw the pairs of a batch from targets float[B, 6] and mask bool[B, 6]; None without mixup.

    `progress` 0..1 of the run selects the compound share. Other pairs are neighbours, whose order is random already, so
    that a batch divided among processes has the same pairs as a whole one. Partners for a compound are sought within
    the given part of the batch; a face without one is not mixed.
    """
    count, device = len(targets), targets.device
    if config.alpha == 0 or count < 2:
        return None
    number, restriction, rank = draws.uniform(DrawPurpose.MIXUP, 3).unbind(1)
    halves = draws.one(DrawPurpose.MIXUP) < config.cutmix
    lam = torch.full((count,), 0.5, device=device) if halves else draws.beta(number, config.alpha)
    own = torch.arange(count, device=device)
    partner = (own ^ 1).clamp(max=count - 1)
    phase = min(int(progress * len(config.compound_share)), len(config.compound_share) - 1)
    share = config.compound_share[phase]
    if share > 0:
        shown = torch.where(mask, targets, 0)
        strength, top = shown.max(1)
        fits = compound_pairs(device)[top][:, top] & (strength > 0)[:, None] & (strength > 0)[None]
        # cyclic differences of random ranks choose a partner at random, independently for each face
        best, chosen = torch.where(fits, (rank[None] - rank[:, None]) % 1, -1).max(1)
        restricted, found = restriction < share, best >= 0
        partner = torch.where(restricted, torch.where(found, chosen, own), partner)
        lam = torch.where(restricted & ~found, 1, lam)
    return Mix(partner=partner, lam=lam, halves=halves)

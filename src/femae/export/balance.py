"""Calibration of the logits: a balance that undoes part of the class imbalance (Menon et al. 2021), a temperature."""

from collections.abc import Sequence

import numpy as np

from femae.labels import EMOTIONS
from femae.models.weights import WeightsInfo

__all__ = ["balance_offsets", "balanced", "tempered"]


def balance_offsets(class_counts: Sequence[float], *, balance: float) -> tuple[float, ...]:
    """Six offsets: an emotion seen N_j times gets balance * log(N_max / N_j), less what keeps their mean over the
    training set at 0."""
    counts = np.asarray(class_counts, np.float64)
    offsets = balance * np.log(counts.max() / counts)
    return tuple((offsets - (offsets * counts).sum() / counts.sum()).tolist())


def balanced(info: WeightsInfo, *, class_counts: Sequence[float], balance: float) -> WeightsInfo:
    """The same weights with the offsets added to their calibration: after its scale, in units of the logit."""
    before = info.offset or (0.0,) * len(EMOTIONS)
    after = balance_offsets(class_counts, balance=balance)
    offset = tuple(old + new for old, new in zip(before, after, strict=True))
    return info.model_copy(update={"scale": info.scale or (1.0,) * len(EMOTIONS), "offset": offset})


def tempered(info: WeightsInfo, *, temperature: float) -> WeightsInfo:
    """The same weights with their calibrated logits divided by a temperature (Guo et al. 2017)."""
    if temperature == 1:
        return info
    scale, offset = info.scale or (1.0,) * len(EMOTIONS), info.offset or (0.0,) * len(EMOTIONS)
    return info.model_copy(
        update={
            "scale": tuple(value / temperature for value in scale),
            "offset": tuple(value / temperature for value in offset),
        }
    )

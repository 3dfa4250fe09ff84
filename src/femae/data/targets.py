"""Unified labels: the labels of any data set become six soft targets and a mask (paper, section 3.1).

| label | targets of the six | known |
|---|---|---|
| basic emotion | 1 for it, 0 for the other five | all |
| compound | 1 for its two emotions, 0 for the other four | all |
| neutral, contempt | 0 for all: the label names an expression, and none of the six | all |
| other, none, uncertain, unknown, no face | - | none: these say nothing about the six |
| votes | each emotion's share of the votes that name an expression | all, if at least 60 % of the votes name one |

`Other` of Aff-Wild2 and `None` of AffectNet include mixed and compound expressions, so they say nothing about the six.
Each action unit is known or unknown by itself. Unknown labels are masked; their target 0 is a placeholder.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from femae.errors import DataError, LabelError
from femae.labels import EMOTIONS, compound_from_pair, parse_label

__all__ = [
    "MIN_NAMED_SHARE",
    "EmotionLabel",
    "WeightMode",
    "action_unit_targets",
    "class_weights",
    "label_targets",
    "unknown_targets",
    "vote_targets",
]

MIN_NAMED_SHARE: Final = 0.6  # share of the votes that must name an expression
WeightMode = Literal["n_max", "none", "pos_weight"]
_NONE_OF_SIX: Final = ("neutral", "contempt")
_NO_EXPRESSION: Final = ("unknown", "no face", "uncertain")  # votes that name no expression
_PAIRS: Final = {compound_from_pair(*pair).name: pair for pair in permutations(EMOTIONS, 2)}

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class EmotionLabel:
    """Six targets, their mask, and the name of the label."""

    targets: Floats  # f32[6], 0..1, in the order of EMOTIONS
    mask: Bools  # bool[6], True: known
    class_name: str  # an emotion, a compound's name, one of OTHER_EXPRESSIONS; empty: no label


def unknown_targets(class_name: str = "") -> EmotionLabel:
    """The label of a face whose six emotions are all unknown."""
    count = len(EMOTIONS)
    return EmotionLabel(targets=np.zeros(count, np.float32), mask=np.zeros(count, np.bool_), class_name=class_name)


def _known(present: Iterable[str], class_name: str) -> EmotionLabel:
    targets = np.zeros(len(EMOTIONS), np.float32)
    for emotion in present:
        targets[EMOTIONS.index(emotion)] = 1
    return EmotionLabel(targets=targets, mask=np.ones(len(EMOTIONS), np.bool_), class_name=class_name)


def label_targets(label: str) -> EmotionLabel:
    """Targets of a basic emotion, a compound or another expression, in any spelling of labels.parse_label.

    Raises LabelError for other labels.
    """
    name = parse_label(label)
    if name in EMOTIONS:
        return _known([name], name)
    if name in _NONE_OF_SIX:
        return _known([], name)
    if name in _PAIRS:
        return _known(_PAIRS[name], name)
    return unknown_targets(name)


def vote_targets(votes: Mapping[str, float]) -> EmotionLabel:
    """Targets of annotators' votes (counts or shares) by label, e.g. {"happiness": 7, "neutral": 2, "unknown": 1}.

    A compound's votes count for both of its emotions. `class_name` is the label with most votes, in a tie the first in
    the order of EMOTIONS, then of the votes. Raises LabelError for an unknown label or votes that are not finite
    numbers of at least 0.
    """
    totals: dict[str, float] = {}
    for label, count in votes.items():
        if not (np.isfinite(count) and count >= 0):
            raise LabelError(f"{count} votes for '{label}': expected a number of at least 0")
        name = parse_label(label)
        totals[name] = totals.get(name, 0.0) + float(count)
    total = sum(totals.values())
    named = sum(count for name, count in totals.items() if name not in _NO_EXPRESSION)
    if total <= 0:
        return unknown_targets()
    if named < MIN_NAMED_SHARE * total:
        return unknown_targets("unknown")
    targets = np.zeros(len(EMOTIONS), np.float32)
    for name, count in totals.items():
        for emotion in _PAIRS.get(name, (name,)):
            if emotion in EMOTIONS:
                targets[EMOTIONS.index(emotion)] += count / named
    ordered = sorted(totals, key=lambda name: EMOTIONS.index(name) if name in EMOTIONS else len(EMOTIONS))
    top = max((name for name in ordered if name not in _NO_EXPRESSION), key=lambda name: totals[name])
    return EmotionLabel(targets=np.clip(targets, 0, 1), mask=np.ones(len(EMOTIONS), np.bool_), class_name=top)


def action_unit_targets(values: Mapping[str, float], *, names: Sequence[str]) -> tuple[Floats, Bools]:
    """Known action units 0..1 by name -> targets f32[A] and mask bool[A] in the order of `names`.

    Units outside `names` are ignored. Raises LabelError for a value outside 0..1.
    """
    targets, mask = np.zeros(len(names), np.float32), np.zeros(len(names), np.bool_)
    for position, name in enumerate(names):
        if name in values:
            if not 0 <= values[name] <= 1:
                raise LabelError(f"{name} is {values[name]}: expected 0 to 1, or leave it out where it is not known")
            targets[position], mask[position] = values[name], True
    return targets, mask


def class_weights(targets: Floats, mask: Bools, *, names: Sequence[str] = EMOTIONS, mode: WeightMode) -> Floats:
    """Class weights W_j of eq. (1), f32[C], from targets f32[N, C] and mask bool[N, C].

    With N_j the sum of the known targets of class j and M_j the number of samples where it is known: `n_max` is
    N_max / N_j, the paper's weights, for both terms of eq. (1); `pos_weight` is (M_j - N_j) / N_j, for the positive
    term alone; `none` is 1. Raises DataError when a class has no positive sample, except for `none`.
    """
    if mode == "none":
        return np.ones(targets.shape[1], np.float32)
    positive = np.where(mask, targets, 0).astype(np.float64).sum(0)
    absent = [name for name, count in zip(names, positive, strict=True) if count <= 0]
    if absent:
        raise DataError(
            f"no sample shows {', '.join(absent)}, so W_j has no value for it: add a data set that labels it, leave "
            "the class out, or choose the weights `none`"
        )
    if mode == "n_max":
        return np.asarray(positive.max() / positive, np.float32)
    return np.asarray((mask.sum(0) - positive) / positive, np.float32)

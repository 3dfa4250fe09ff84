"""From six emotion probabilities to compound scores, and from scores to one compound (paper, section 3.5).

The paper scores a compound expression by combining the probabilities of its two basic emotions and predicts the
compound with the highest score; it leaves open how the two are combined. Public work uses the sum of the two sigmoids
(the default here), their arithmetic, geometric or harmonic mean, and a pair sum with a weight per emotion.

With p, q the probabilities of a pair and v, w the weights of its two emotions:

| rule       | score                        | with v = w = 1 |
|------------|------------------------------|----------------|
| sum        | v p + w q                    | p + q          |
| product    | p^v q^w                      | p q            |
| arithmetic | (v p + w q) / (v + w)        | (p + q) / 2    |
| geometric  | (p^v q^w)^(1 / (v + w))      | sqrt(p q)      |
| harmonic   | (v + w) / (v / p + w / q)    | 2 / (1/p + 1/q)|

An emotion of weight 0 is ignored: the other emotion of the pair decides alone. A pair with both weights 0 scores 0
under every rule, which switches it off (as an empty product it would always win). The means lie between p and q, the
sum reaches v + w. Without weights, sum and arithmetic mean give the same ranking, and so do product and geometric mean.
"""

import difflib
import math
from typing import Final, get_args

import numpy as np
import numpy.typing as npt

from femae.errors import ConfigError, LabelError
from femae.labels import EMOTIONS, Compound, emotion_indices
from femae.types import Rule

__all__ = ["RULES", "Rule", "combine", "decide", "parse_weights"]

RULES: Final[tuple[Rule, ...]] = get_args(Rule)

_MAX_WEIGHT: Final = 1_000_000  # so that every score fits float32
_Floats = npt.NDArray[np.float64]


def combine(
    probs: npt.NDArray[np.float32],
    *,
    compounds: tuple[Compound, ...],
    rule: Rule = "sum",
    weights: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """Score every compound of every face.

    probs: f32[N, 6] in 0..1, order of EMOTIONS; weights: f32[6], 0 or more, one per emotion (None: all 1).
    Returns f32[N, K], order of `compounds`; computed in float64, so that only the result is rounded.
    Raises ConfigError for an unknown rule.
    """
    assert probs.ndim == 2 and probs.shape[1] == len(EMOTIONS), f"probs: {probs.shape}, expected (N, {len(EMOTIONS)})"
    if rule not in RULES:
        raise ConfigError(f"'{rule}' is not a rule; expected one of {', '.join(RULES)}")
    per_emotion = np.ones(len(EMOTIONS)) if weights is None else weights.astype(np.float64)
    assert per_emotion.shape == (len(EMOTIONS),) and bool(np.all(per_emotion >= 0)), "weights: expected 6, each >= 0"
    pairs = np.array(emotion_indices(compounds), np.intp).reshape(-1, 2)  # [K, 2]
    p, q = (probs[:, column].astype(np.float64) for column in pairs.T)  # [N, K] each
    v, w = (per_emotion[column] for column in pairs.T)  # [K] each
    scores = _combine_pairs(rule, p=p, q=q, v=v, w=w)
    return np.where(v + w > 0, scores, 0.0).astype(np.float32)


def _combine_pairs(rule: Rule, *, p: _Floats, q: _Floats, v: _Floats, w: _Floats) -> _Floats:
    """The formulas above for p, q f64[N, K] and v, w f64[K]; pairs with both weights 0 are undefined here."""
    total = np.where(v + w > 0, v + w, 1.0)
    if rule == "sum":
        return v * p + w * q
    if rule == "arithmetic":
        return (v * p + w * q) / total
    if rule == "product":
        return np.power(p, v) * np.power(q, w)
    if rule == "geometric":  # the root is taken first: a large weight cannot underflow
        return np.power(p, v / total) * np.power(q, w / total)
    zero = ((p <= 0) & (v > 0)) | ((q <= 0) & (w > 0))  # an emotion of non-zero weight has probability 0
    inverse = v / np.where(p > 0, p, 1.0) + w / np.where(q > 0, q, 1.0)
    return np.where(zero, 0.0, total / np.where(inverse > 0, inverse, 1.0))


def decide(
    scores: npt.NDArray[np.float32], *, compounds: tuple[Compound, ...], threshold: float | None = None
) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Choose the compound with the largest score for each face.

    scores: f32[N, K], order of `compounds`. Ties go to the class that is first in `compounds`, which for the default
    set is the order of the ABAW challenge. Below `threshold` (compared in float32) the rule abstains: the name is
    empty. Returns N names and the largest scores f32[N], including abstained ones.
    """
    assert scores.ndim == 2 and scores.shape[1] == len(compounds) > 0, f"scores: {scores.shape}, {len(compounds)} names"
    winners = np.argmax(scores, axis=1)
    best = np.take_along_axis(scores, winners[:, None], axis=1)[:, 0]
    lowest = np.float32(-np.inf if threshold is None else threshold)
    names = [compounds[k].name if score >= lowest else "" for k, score in zip(winners, best, strict=True)]
    return names, best


def parse_weights(text: str) -> npt.NDArray[np.float32]:
    """`fear=2,surprise=0.5` -> f32[6] in the order of EMOTIONS; emotions not named keep the weight 1.

    Raises LabelError for an unknown or repeated emotion, a part without a number, a weight that is negative or not
    finite, and six weights that are all 0.
    """
    weights = np.ones(len(EMOTIONS), np.float32)
    seen: set[str] = set()
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if not equals or not name:
            raise LabelError(f"'{part.strip()}' is not a weight: expected emotion=number, as in fear=2,surprise=0.5")
        emotion = name.lower()
        if emotion not in EMOTIONS:
            raise LabelError(f"there is no emotion '{name}' to weight. {_nearest(emotion)}")
        if emotion in seen:
            raise LabelError(f"the weight of '{emotion}' appears twice in '{text}'; give it once")
        seen.add(emotion)
        weights[EMOTIONS.index(emotion)] = _parse_number(number, emotion=emotion)
    if not weights.any():
        raise LabelError(f"'{text}' gives every emotion the weight 0; leave at least one above 0")
    return weights


def _nearest(name: str) -> str:
    matches = difflib.get_close_matches(name, EMOTIONS, n=1, cutoff=0.5)
    return (f"Did you mean '{matches[0]}'? " if matches else "") + f"The six are: {', '.join(EMOTIONS)}"


def _parse_number(text: str, *, emotion: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= _MAX_WEIGHT:
        raise LabelError(f"the weight of '{emotion}' cannot be '{text}': expected a number from 0 to {_MAX_WEIGHT:,}")
    return number

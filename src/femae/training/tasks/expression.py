"""Fit the numbers of the label for people (compound.expression) to faces that the network was not trained on.

Seven numbers make the cross-entropy of the answers least; then the gain of compounds is chosen by macro-F1, among those
at which at most one in twenty of the other faces is called a compound.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from femae.compound.expression import ExpressionRule, answer_scores
from femae.config.model import ExpressionParams
from femae.errors import DataError
from femae.labels import ABAW_COMPOUNDS, EMOTIONS, Compound, emotion_indices
from femae.metrics.f1 import macro_f1
from femae.metrics.hard_labels import top_expression
from femae.training.loop.scores import read_none, read_scores

__all__ = ["MIN_COMPOUNDS", "MIN_FACES", "fit_expression", "fit_expression_to_tables", "gain_curve"]

MIN_FACES: Final = 200  # clear ones in all, and
MIN_COMPOUNDS: Final = 20  # compounds: with fewer there is nothing to fit
_GAINS: Final = np.exp(np.linspace(0, np.log(8), 43))  # of compounds: 1 to 8 in steps of 5 %
_MOST_SAID: Final = 0.05  # share of the other faces that are called a compound
_PULL: Final = 1e-3  # towards 0, so that perfectly separated faces give no endless numbers
_NUMBERS: Final[dict[str, tuple[float, tuple[float | None, float | None]]]] = {  # start, bounds
    "none_bias": (0.0, (None, None)),
    "none_slope": (0.5, (0, None)),
    "none_weight": (0.0, (0, None)),
    "stronger": (0.5, (0, None)),
    "weaker": (0.5, (0, None)),
    "compound_bias": (0.0, (None, None)),
    "scale": (1.0, (0.05, None)),
}
_NUM_BEFORE: Final = 1 + len(EMOTIONS)  # answers before the first compound

Floats = npt.NDArray[np.float64]
Outputs = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def fit_expression_to_tables(
    paths: Sequence[Path],
    *,
    scale: Sequence[float] = (),
    offset: Sequence[float] = (),
    compounds: tuple[Compound, ...] = ABAW_COMPOUNDS,
) -> ExpressionParams | None:
    """The numbers for tables of scores (training.scores) of faces that the network was not trained on.

    scale, offset: six each, the calibration that the file to be made applies to the logits; empty: none. None where the
    tables hold too few clear faces or compounds.
    """
    outputs, answers = [], []
    for path in paths:
        probs, targets, mask = read_scores(path)
        outputs.append(np.concatenate([_calibrated(probs, scale=scale, offset=offset), read_none(path)], axis=1))
        answers.append(top_expression(targets, pairs=emotion_indices(compounds), mask=mask))
    if len({part.shape[1] for part in outputs}) > 1:
        raise DataError("some of the tables of scores have a column none and some do not: they are of different models")
    return fit_expression(np.concatenate(outputs), np.concatenate(answers), compounds=compounds)


def fit_expression(outputs: Outputs, answers: Ints, *, compounds: tuple[Compound, ...]) -> ExpressionParams | None:
    """The numbers for outputs f32[N, 6 or 7] and true answers i64[N], both as ExpressionRule has them.

    Answer -1: unclear, does not count. None where too few faces, or too few compounds, are left to fit.
    """
    clear = answers >= 0
    outputs, answers = outputs[clear], answers[clear]
    if len(answers) < MIN_FACES or (answers >= _NUM_BEFORE).sum() < MIN_COMPOUNDS:
        return None
    params = _least_cross_entropy(outputs, answers, pairs=np.array(emotion_indices(compounds), np.intp))
    curve = gain_curve(outputs, answers, compounds=compounds, params=params)
    allowed = curve[:, 3] <= _MOST_SAID
    allowed[0] = True  # the smallest gain, whatever it says of others
    gain = curve[np.argmax(np.where(allowed, curve[:, 2], -1)), 0]
    return params.model_copy(update={"compound_gain": round(float(gain), 4), "num_faces": len(answers)})


def gain_curve(outputs: Outputs, answers: Ints, *, compounds: tuple[Compound, ...], params: ExpressionParams) -> Floats:
    """What each gain of compounds gives f64[G, 5]: gain, accuracy, macro-F1, said of others, found.

    Macro-F1: over answers with at least three faces. Said of others: the share of faces that are no compound and are
    called one. Found: the share of compounds that are named rightly. Arguments as in fit_expression, answers >= 0.
    """
    rule = ExpressionRule(compounds, params=params.model_copy(update={"compound_gain": 1.0}))
    preferences = rule.preferences(rule.probabilities(outputs))
    is_compound = answers >= _NUM_BEFORE
    rows = []
    for gain in _GAINS:
        gained = preferences.copy()
        gained[:, _NUM_BEFORE:] += np.log(gain)
        said = gained.argmax(axis=1)
        f1 = macro_f1(said, true=answers, num_classes=len(rule.names), min_present=3)
        others = said[~is_compound] >= _NUM_BEFORE
        rows.append((gain, (said == answers).mean(), f1, others.mean(), (said == answers)[is_compound].mean()))
    return np.array(rows, np.float64)


def _least_cross_entropy(outputs: Outputs, answers: Ints, *, pairs: npt.NDArray[np.intp]) -> ExpressionParams:
    from scipy.optimize import minimize
    from scipy.special import logsumexp

    rows = np.arange(len(answers))

    def loss(numbers: Floats) -> float:
        scores = answer_scores(outputs, pairs=pairs, params=_params(numbers)) * numbers[-1]
        return float((logsumexp(scores, axis=1) - scores[rows, answers]).mean() + _PULL * (numbers**2).sum())

    bounds = [limits for _, limits in _NUMBERS.values()]
    if outputs.shape[1] == len(EMOTIONS):
        bounds[list(_NUMBERS).index("none_weight")] = (0, 0)
    found = minimize(loss, [start for start, _ in _NUMBERS.values()], method="L-BFGS-B", bounds=bounds).x
    return _params(np.round(found, 6))


def _params(numbers: Floats) -> ExpressionParams:
    values: dict[str, Any] = dict(zip(_NUMBERS, map(float, numbers), strict=True))
    return ExpressionParams.model_construct(**values)


def _calibrated(probs: Outputs, *, scale: Sequence[float], offset: Sequence[float]) -> Outputs:
    """sigmoid(scale * logit + offset) of each emotion; empty: as they are."""
    if not scale:
        return probs
    p = np.clip(probs.astype(np.float64), 1e-6, 1 - 1e-6)
    logits = (np.log(p) - np.log1p(-p)) * np.asarray(scale) + np.asarray(offset)
    return (1 / (1 + np.exp(-logits))).astype(np.float32)

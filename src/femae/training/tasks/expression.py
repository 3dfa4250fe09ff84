"""Fits the parameters of the column `expression` (compound.expression) to faces that the network was not trained on.

Seven parameters minimise the cross-entropy of the answers; then the gain of compounds is chosen by macro-F1, among
those that call at most one in twenty of the other faces a compound.
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

MIN_FACES: Final = 200  # clearly labelled faces, below which nothing is fitted
MIN_COMPOUNDS: Final = 20  # compounds among them
_GAINS: Final = np.exp(np.linspace(0, np.log(8), 43))  # of compounds: 1 to 8 in steps of 5 %
_MAX_FALSE_SHARE: Final = 0.05  # share of the other faces that may be called a compound
_L2: Final = 1e-3  # keeps parameters finite when the faces are perfectly separable
_PARAMETERS: Final[dict[str, tuple[float, tuple[float | None, float | None]]]] = {  # start, bounds
    "none_bias": (0.0, (None, None)),
    "none_slope": (0.5, (0, None)),
    "none_weight": (0.0, (0, None)),
    "stronger": (0.5, (0, None)),
    "weaker": (0.5, (0, None)),
    "compound_bias": (0.0, (None, None)),
    "scale": (1.0, (0.05, None)),
}
_FIRST_COMPOUND: Final = 1 + len(EMOTIONS)  # index of the first compound among the answers

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
    """Fit the parameters to score tables (training.loop.scores) of faces that the network was not trained on.

    scale, offset: six each, the calibration that the final weights file applies to the logits; empty: none. None when
    the tables hold too few clear faces or compounds. Raises DataError when the tables' columns differ.
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
    """Fit the parameters to outputs f32[N, 6 or 7] and true answers i64[N], both as ExpressionRule defines them.

    Answer -1: unclear, does not count. None when too few faces or too few compounds remain.
    """
    clear = answers >= 0
    outputs, answers = outputs[clear], answers[clear]
    if len(answers) < MIN_FACES or (answers >= _FIRST_COMPOUND).sum() < MIN_COMPOUNDS:
        return None
    params = _least_cross_entropy(outputs, answers, pairs=np.array(emotion_indices(compounds), np.intp))
    curve = gain_curve(outputs, answers, compounds=compounds, params=params)
    allowed = curve[:, 3] <= _MAX_FALSE_SHARE
    allowed[0] = True  # the smallest gain is always allowed
    gain = curve[np.argmax(np.where(allowed, curve[:, 2], -1)), 0]
    return params.model_copy(update={"compound_gain": round(float(gain), 4), "num_faces": len(answers)})


def gain_curve(outputs: Outputs, answers: Ints, *, compounds: tuple[Compound, ...], params: ExpressionParams) -> Floats:
    """Metrics for each gain of compounds, f64[G, 5]: gain, accuracy, macro-F1, false share, recall.

    Macro-F1: over answers with at least three faces. False share: of the faces without a compound, those called one.
    Recall: of the compounds, those named correctly. Arguments as in fit_expression, answers >= 0.
    """
    rule = ExpressionRule(compounds, params=params.model_copy(update={"compound_gain": 1.0}))
    preferences = rule.preferences(rule.probabilities(outputs))
    is_compound = answers >= _FIRST_COMPOUND
    rows = []
    for gain in _GAINS:
        gained = preferences.copy()
        gained[:, _FIRST_COMPOUND:] += np.log(gain)
        predicted = gained.argmax(axis=1)
        f1 = macro_f1(predicted, true=answers, num_classes=len(rule.names), min_present=3)
        others = predicted[~is_compound] >= _FIRST_COMPOUND
        rows.append(
            (gain, (predicted == answers).mean(), f1, others.mean(), (predicted == answers)[is_compound].mean())
        )
    return np.array(rows, np.float64)


def _least_cross_entropy(outputs: Outputs, answers: Ints, *, pairs: npt.NDArray[np.intp]) -> ExpressionParams:
    from scipy.optimize import minimize
    from scipy.special import logsumexp

    rows = np.arange(len(answers))

    def loss(values: Floats) -> float:
        scores = answer_scores(outputs, pairs=pairs, params=_params(values)) * values[-1]
        return float((logsumexp(scores, axis=1) - scores[rows, answers]).mean() + _L2 * (values**2).sum())

    bounds = [limits for _, limits in _PARAMETERS.values()]
    if outputs.shape[1] == len(EMOTIONS):
        bounds[list(_PARAMETERS).index("none_weight")] = (0, 0)
    found = minimize(loss, [start for start, _ in _PARAMETERS.values()], method="L-BFGS-B", bounds=bounds).x
    return _params(np.round(found, 6))


def _params(values: Floats) -> ExpressionParams:
    by_name: dict[str, Any] = dict(zip(_PARAMETERS, map(float, values), strict=True))
    return ExpressionParams.model_construct(**by_name)


def _calibrated(probs: Outputs, *, scale: Sequence[float], offset: Sequence[float]) -> Outputs:
    """sigmoid(scale * logit + offset) of each emotion; unchanged if `scale` is empty."""
    if not scale:
        return probs
    p = np.clip(probs.astype(np.float64), 1e-6, 1 - 1e-6)
    logits = (np.log(p) - np.log1p(-p)) * np.asarray(scale) + np.asarray(offset)
    return (1 / (1 + np.exp(-logits))).astype(np.float32)

"""Evaluation of the label for people (compound.expression): one answer among none, six emotions and compounds.

The true answer is metrics.hard_labels.top_expression; an unclear face does not count, a missed one is wrong. Besides
accuracy and F1 there are two rates for compounds, the false positive rate (faces without a compound that are labelled
with one) and the recall (faces with a compound that get the right label), and the ECE of the label's probability.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from femae.compound.expression import ExpressionRule
from femae.evaluation.labels import Ints
from femae.evaluation.tables import float_column, text_column
from femae.labels import EMOTIONS, Compound
from femae.metrics.bootstrap import GroupDraws, bootstrap_sums, group_sums, interval
from femae.metrics.calibration import Reliability, bootstrap_ece, reliability

__all__ = ["NUM_BINS", "ExpressionRates", "expression_rates", "given_answers", "with_expression"]

NUM_BINS: Final = 10
_FIRST_COMPOUND: Final = 1 + len(EMOTIONS)

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]  # 95 %; NaN where there are no draws


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpressionRates:
    """Figures of the label besides accuracy and F1; NaN where no face counts."""

    compound_said_of_others: float  # of faces that show no compound, the share labelled with one
    compound_said_of_others_interval: Interval
    compound_found: float  # of faces that show a compound, the share with the right label
    compound_found_interval: Interval
    bins: Reliability  # of the predicted probability: one label, NUM_BINS bins
    ece_interval: Interval

    @property
    def ece(self) -> float:
        return float(self.bins.ece[0])


def with_expression(table: pa.Table, rule: ExpressionRule, outputs: npt.NDArray[np.float32]) -> pa.Table:
    """The table with the columns expression and expression_probability, decided on outputs f32[N, 6 or 7]."""
    names, values = rule.decide(outputs)
    table = table.append_column("expression", pa.array(names, pa.string()))
    return table.append_column("expression_probability", pa.array(values, pa.float32()))


def given_answers(
    table: pa.Table, *, compounds: tuple[Compound, ...], path: Any, rows: Ints | None = None
) -> tuple[Ints, Floats] | None:
    """The answers i64[N] of a table, as indices of ExpressionRule.names, and their probabilities f64[N].

    -1: no answer, or a compound outside the class set. rows i64[M]: return these rows, -1 for no row. None if the table
    has no column `expression`. Raises DataError.
    """
    if "expression" not in table.column_names:
        return None
    index = {name: number for number, name in enumerate(ExpressionRule(compounds).names)}
    answers = np.array([index.get(text, -1) for text in text_column(table, "expression")], np.int64)
    values = float_column(table, "expression_probability", path=path)
    if rows is None:
        return answers, values
    return np.where(rows < 0, -1, answers[rows]), np.where(rows < 0, np.nan, values[rows])


def expression_rates(
    answers: Ints, probs: Floats, *, truth: Ints, groups: Ints, num_draws: int, seed: int
) -> ExpressionRates:
    """Rates of answers i64[N] with probabilities f64[N] (NaN: no answer) against truth i64[N]; no face is unclear."""
    predicted, right, is_compound = answers >= _FIRST_COMPOUND, answers == truth, truth >= _FIRST_COMPOUND
    pairs = [predicted & ~is_compound, ~is_compound, right & is_compound, is_compound]
    counts = np.stack(pairs, axis=1).astype(np.int64)
    draws = bootstrap_sums(group_sums(counts, groups=groups), num=num_draws, seed=seed)
    known, ece_draws = ~np.isnan(probs), GroupDraws(groups=groups, num=num_draws, seed=seed)
    ece: dict[str, Any] = {"targets": right[:, None].astype(np.float64), "mask": known[:, None], "num_bins": NUM_BINS}
    filled = np.nan_to_num(probs)[:, None]
    return ExpressionRates(
        compound_said_of_others=_share(counts.sum(0)[:2]),
        compound_said_of_others_interval=interval(_shares(draws[:, :2])),
        compound_found=_share(counts.sum(0)[2:]),
        compound_found_interval=interval(_shares(draws[:, 2:])),
        bins=reliability(filled, **ece),
        ece_interval=interval(bootstrap_ece(filled, draws=ece_draws, **ece)[:, 0]),
    )


def _shares(pairs: npt.NDArray[np.float64]) -> Floats:
    """Quotients f64[K] of [K, 2]; NaN where the denominator is 0."""
    return np.asarray(np.where(pairs[:, 1] > 0, pairs[:, 0] / np.maximum(pairs[:, 1], 1), np.nan), np.float64)


def _share(pair: npt.NDArray[np.int64]) -> float:
    return float(_shares(pair[None].astype(np.float64))[0])

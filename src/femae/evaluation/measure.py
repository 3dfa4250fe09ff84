"""All figures of a set of samples (paper, section 4.3).

- `emotions`: one of six classes. The true one is Labels.top (evaluation/labels.py), the predicted one has the largest
  of the six probabilities.
- `compound`: one of the class set; the predicted one has the largest score of the rule. The macro-F1 is P_CE, eq. (3).
- `expression`: the label for people, if predictions have it (evaluation/expressions.py).
- `labels` and `units`: each emotion, or action unit, by itself (multi-label), unknown ones masked.

A missed face counts as wrong: as no answer in the first three, and as a label not predicted in the F1 of the last two.
Average precision, AUROC and calibration need a probability and are computed on found faces only.

Subgroups divide the samples by a column: texts by value, numbers by quantile.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from femae.compound.expression import ExpressionRule
from femae.compound.rules import Rule, combine
from femae.errors import ConfigError
from femae.evaluation.expressions import ExpressionRates, expression_rates
from femae.evaluation.labels import Bools, Ints, Samples
from femae.labels import EMOTIONS, Compound
from femae.metrics.bootstrap import GroupDraws, bootstrap_f1, bootstrap_sums, group_sums, interval
from femae.metrics.calibration import Reliability, best_thresholds, bootstrap_ece, reliability
from femae.metrics.f1 import binary_f1, confusion, f1_from_counts, f1_per_class
from femae.metrics.ranking import auroc, average_precision, bootstrap_ranking

__all__ = ["ClassFigures", "LabelFigures", "Measures", "Settings", "Subgroup", "measure", "subgroups"]

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]  # 95 %; NaN where there are no draws
_MAX_VALUES: Final = 20  # most frequent values of a text column; the others form one subgroup
_MISSING: Final = "(none)"
_OTHERS: Final = "(others)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Settings of all figures."""

    compounds: tuple[Compound, ...]
    rule: Rule = "sum"
    weights: npt.NDArray[np.float32] | None = None  # f32[6]
    thresholds: Floats  # f64[6], of the emotions; action units have 0.5
    min_present: int = 3
    num_bins: int = 15
    num_draws: int = 1000
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassFigures:
    """Figures of a single-label task: one of C classes per sample."""

    names: tuple[str, ...]
    num: int
    num_missed: int
    num_groups: int
    accuracy: float
    f1: Floats  # f64[C]
    support: Ints  # i64[C]
    present: Bools  # bool[C]: at least Settings.min_present samples
    macro_f1: float  # over all classes
    macro_f1_present: float  # over present classes; NaN without any
    confusion: Ints  # i64[C, C + 1], the last column: missed
    accuracy_interval: Interval
    f1_intervals: tuple[Interval, ...]
    macro_f1_interval: Interval
    macro_f1_present_interval: Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelFigures:
    """Figures of a multi-label task: C labels, each by itself."""

    names: tuple[str, ...]
    num_known: Ints  # i64[C]
    num_positive: Ints  # i64[C]
    num_missed: int
    thresholds: Floats  # f64[C]
    f1: Floats  # f64[C]; NaN: no positive sample
    mean_f1: float  # over labels with a positive sample
    mean_f1_interval: Interval
    average_precision: Floats  # f64[C]; NaN: undefined
    average_precision_intervals: tuple[Interval, ...]  # per label, then of the mean
    auroc: Floats  # f64[C]; NaN: undefined
    auroc_intervals: tuple[Interval, ...]  # as above
    bins: Reliability
    ece_intervals: tuple[Interval, ...]  # as above
    best_thresholds: Floats  # f64[C], chosen on the same samples
    best_f1: Floats  # f64[C]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measures:
    """All figures; None where no sample has such a label."""

    num: int
    num_found: int
    emotions: ClassFigures | None
    compound: ClassFigures | None
    expression: ClassFigures | None
    expression_rates: ExpressionRates | None
    labels: LabelFigures | None
    units: LabelFigures | None


def measure(samples: Samples, settings: Settings) -> Measures:
    """All figures. Raises MissingDependencyError without scikit-learn."""
    known, found = samples.labels, samples.found
    probs = np.nan_to_num(samples.probs)
    scores = combine(probs, compounds=settings.compounds, rule=settings.rule, weights=settings.weights)
    names = ExpressionRule(settings.compounds).names
    expression, rates = _expression(samples, names=names, settings=settings)

    def classes(values: npt.NDArray[np.float32], truth: Ints, names: tuple[str, ...]) -> ClassFigures | None:
        return _classes(np.where(found, values.argmax(1), -1), truth, names, samples.groups, settings)

    return Measures(
        num=len(samples),
        num_found=int(found.sum()),
        emotions=classes(probs, known.top, EMOTIONS),
        compound=classes(scores, known.compound, names[1 + len(EMOTIONS) :]),
        expression=expression,
        expression_rates=rates,
        labels=_labels(samples, settings, of_units=False),
        units=_labels(samples, settings, of_units=True),
    )


def _expression(
    samples: Samples, *, names: tuple[str, ...], settings: Settings
) -> tuple[ClassFigures | None, ExpressionRates | None]:
    truth = samples.labels.expression
    if samples.answers is None or not (truth >= 0).any():
        return None, None
    answers, probs = samples.answers
    clear = truth >= 0
    rates = expression_rates(
        answers[clear],
        probs[clear],
        truth=truth[clear],
        groups=samples.groups[clear],
        num_draws=settings.num_draws,
        seed=settings.seed,
    )
    return _classes(answers, truth, names, samples.groups, settings), rates


def _classes(
    pred: npt.NDArray[np.integer], truth: Ints, names: tuple[str, ...], groups: Ints, settings: Settings
) -> ClassFigures | None:
    """Figures of pred i[N] (-1: no answer) against truth i64[N] (-1: unknown, not counted)."""
    counts = truth >= 0
    if not counts.any():
        return None
    true, groups, pred, size = truth[counts], groups[counts], pred[counts], len(names)
    f1 = f1_per_class(pred, true=true, num_classes=size)
    support = np.bincount(true, minlength=size)
    present = support >= settings.min_present
    draws, accuracies = bootstrap_f1(
        pred, true=true, num_classes=size, groups=groups, num=settings.num_draws, seed=settings.seed
    )
    return ClassFigures(
        names=names,
        num=len(true),
        num_missed=int((pred < 0).sum()),
        num_groups=len(np.unique(groups)),
        accuracy=float((pred == true).mean()),
        f1=f1,
        support=np.asarray(support, np.int64),
        present=np.asarray(present, np.bool_),
        macro_f1=float(f1.mean()),
        macro_f1_present=_mean(f1[present]),
        confusion=confusion(pred, true=true, num_classes=size),
        accuracy_interval=interval(accuracies),
        f1_intervals=tuple(interval(column) for column in draws.T),
        macro_f1_interval=interval(draws.mean(1)),
        macro_f1_present_interval=interval(draws[:, present].mean(1)) if present.any() else (np.nan, np.nan),
    )


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else float("nan")


def _intervals(draws: Floats) -> tuple[Interval, ...]:
    """Intervals of draws f64[num, C]: one per label, then one of the mean over the labels that are defined."""
    defined = ~np.isnan(draws)
    count = defined.sum(1)
    means = np.where(count > 0, np.where(defined, draws, 0).sum(1) / np.maximum(count, 1), np.nan)
    return (*(interval(column) for column in draws.T), interval(means))


def _labels(samples: Samples, settings: Settings, *, of_units: bool) -> LabelFigures | None:
    """Figures of the action units, or of the emotions."""
    known, groups = samples.labels, samples.groups
    probs, targets, mask = samples.probs, known.targets, known.mask
    names: tuple[str, ...] = EMOTIONS
    thresholds = settings.thresholds
    if of_units:
        probs, targets, mask, names = samples.au_probs, known.au_targets, known.au_mask, known.au_names
        thresholds = np.full(len(names), 0.5)
    if not mask.any():
        return None
    found = ~np.isnan(probs)
    seen = mask & found
    filled = np.nan_to_num(probs)
    best = best_thresholds(filled, targets, mask=seen)
    f1 = binary_f1(probs, targets=targets, mask=mask, thresholds=thresholds)
    predicted, present = (probs >= thresholds) & mask, (targets >= 0.5) & mask
    shown = present.any(0)
    counts = np.concatenate([predicted & present, predicted.astype(np.int64) + present], axis=1)
    sums = group_sums(counts, groups=groups)
    totals = bootstrap_sums(sums, num=settings.num_draws, seed=settings.seed)
    draws = f1_from_counts(totals[:, : len(names)], both=totals[:, len(names) :])
    bootstrap: Any = {"targets": targets, "mask": seen}
    bootstrap["draws"] = GroupDraws(groups=groups, num=settings.num_draws, seed=settings.seed)
    precisions, areas = bootstrap_ranking(filled, **bootstrap)
    return LabelFigures(
        names=names,
        num_known=np.asarray(mask.sum(0), np.int64),
        num_positive=np.asarray(present.sum(0), np.int64),
        num_missed=int((mask.any(1) & ~found.all(1)).sum()),
        thresholds=thresholds,
        f1=np.where(shown, f1, np.nan),
        mean_f1=_mean(f1[shown]),
        mean_f1_interval=interval(draws[:, shown].mean(1)) if shown.any() else (np.nan, np.nan),
        average_precision=average_precision(filled, targets=targets, mask=seen),
        average_precision_intervals=_intervals(precisions),
        auroc=auroc(filled, targets=targets, mask=seen),
        auroc_intervals=_intervals(areas),
        bins=reliability(filled, targets=targets, mask=seen, num_bins=settings.num_bins),
        ece_intervals=_intervals(bootstrap_ece(filled, num_bins=settings.num_bins, **bootstrap)),
        best_thresholds=best,
        best_f1=np.where(shown, binary_f1(probs, targets=targets, mask=mask, thresholds=best), np.nan),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Subgroup:
    """One part of the samples and its figures."""

    name: str
    measures: Measures


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """The results of one evaluation."""

    samples: Samples
    measures: Measures
    found_only: Measures | None  # without missed faces, if any were missed
    by: Mapping[str, Sequence[Subgroup]]
    model: str  # that was run for this; empty: none
    scores: pa.Table | None  # of the model on shards


def subgroups(samples: Samples, *, column: str, settings: Settings, num_quantiles: int) -> list[Subgroup]:
    """Figures per subgroup, ordered by value. Raises ConfigError for a missing column or one of lists or bytes."""
    table = samples.columns
    if column not in table.column_names:
        raise ConfigError(f"--by {column}: there is no such column; there are {', '.join(table.column_names)}")
    kind = table.schema.field(column).type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        raise ConfigError(f"--by {column}: the column holds {kind}; expected texts, truth values or numbers")
    if pa.types.is_floating(kind) or pa.types.is_integer(kind):
        values = np.asarray(table.column(column).cast(pa.float64()).to_numpy(), np.float64)
        names = _quantiles(values, num_quantiles)
    else:
        names = _values(table.column(column))
    parts = []
    for name in sorted(set(names.tolist()), key=lambda name: (name in (_MISSING, _OTHERS), name)):
        chosen = np.asarray(names == name, np.bool_)
        parts.append(Subgroup(name=name.split("\0")[-1], measures=measure(samples.select(chosen), settings)))
    return parts


def _values(column: Any) -> npt.NDArray[np.str_]:
    texts = [_MISSING if value is None or value == "" else str(value) for value in column.to_pylist()]
    kept = {name for name, _ in Counter(texts).most_common(_MAX_VALUES)}
    return np.array([text if text in kept else _OTHERS for text in texts])


def _quantiles(values: npt.NDArray[np.float64], num: int) -> npt.NDArray[np.str_]:
    """The name of each value's quantile; with at most `num` distinct values each is a group of its own."""
    known = values[~np.isnan(values)]
    distinct = np.unique(known)
    if len(distinct) <= num:
        names = {value: f"{index:02d}\0{value:g}" for index, value in enumerate(distinct)}
        return np.array([names.get(value, _MISSING) for value in values.tolist()])
    edges = np.unique(np.quantile(known, np.linspace(0, 1, num + 1)))
    part = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    ends = ["]" if p == len(edges) - 2 else ")" for p in range(len(edges) - 1)]
    names_of = [f"{p:02d}\0[{edges[p]:.4g}, {edges[p + 1]:.4g}{ends[p]}" for p in range(len(edges) - 1)]
    return np.array([_MISSING if np.isnan(v) else names_of[p] for v, p in zip(values, part, strict=True)])

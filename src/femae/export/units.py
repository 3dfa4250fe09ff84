"""Which action units an exported file keeps: those detected well enough on held-out faces, each with its threshold.

A network trained with the weights of eq. (1) says rare units too easily, and how easily differs from unit to unit. Here
each gets the threshold at which its F1 is largest, and the unit's logit is moved so that this threshold is 0.5. Whether
a unit is found well enough is judged by thresholds from other faces: those of one half of the persons on the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from femae.errors import DataError
from femae.metrics.f1 import f1_from_counts

__all__ = ["MIN_SHOWN", "UnitChoice", "best_threshold", "choose_units"]

MIN_SHOWN: Final = 40  # faces that show a unit, and as many that do not: with fewer nothing is fitted

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitChoice:
    """F1 of every unit (NaN: too few faces), and what is added to the logits of those that are kept."""

    f1: dict[str, float]
    offsets: dict[str, float]  # to the raw logits, in the order of the names that were asked for


def choose_units(
    tables: Sequence[Path], *, names: Sequence[str], least_f1: float, sources: Sequence[str] = ()
) -> UnitChoice:
    """Judge units by tables of scores (training.scores) of faces that the network was not trained on.

    names: the units of the network; least_f1: 0..1, units below it are not kept; sources: only rows of these data sets.
    Raises DataError where a table is missing, has no such rows or lacks a unit.
    """
    f1, offsets = {}, {}
    parts = [_read(path, names, sources) for path in tables]
    half = np.concatenate([part[0] for part in parts])
    values = np.concatenate([part[1] for part in parts])  # [N, U, 2]
    for unit, name in enumerate(names):
        known = np.isfinite(values[:, unit]).all(1)
        probs, shown = values[known, unit, 0], values[known, unit, 1] >= 0.5
        f1[name] = _cross_f1(probs, shown, half[known])
        if f1[name] >= least_f1:
            threshold = float(np.clip(best_threshold(probs, shown=shown), 1e-6, 1 - 1e-6))
            offsets[name] = round(float(np.log1p(-threshold) - np.log(threshold)), 6)
    return UnitChoice(f1=f1, offsets=offsets)


def best_threshold(probs: Floats, *, shown: npt.NDArray[np.bool_]) -> float:
    """The threshold in 0..1 from which on `probs` f[N] tell `shown` bool[N] with the largest F1."""
    order = np.argsort(-probs, kind="stable")
    ranked = probs[order].astype(np.float64)
    f1 = f1_from_counts(np.cumsum(shown[order]), both=np.arange(1, len(order) + 1) + int(shown.sum()))
    last = np.r_[ranked[1:] < ranked[:-1], True]  # equal values are given together
    best = int(np.argmax(np.where(last, f1, -1)))
    below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    return float((ranked[best] + below) / 2)


def _cross_f1(probs: Floats, shown: npt.NDArray[np.bool_], half: npt.NDArray[np.bool_]) -> float:
    """F1 with the threshold of each half judged on the other; NaN where a half has too few faces."""
    hits = both = 0
    for part in (half, ~half):
        if min(shown[part].sum(), (~shown[part]).sum()) < MIN_SHOWN / 2:
            return float("nan")
        given = probs[~part] >= best_threshold(probs[part], shown=shown[part])
        hits += int((given & shown[~part]).sum())
        both += int(given.sum() + shown[~part].sum())
    return float(f1_from_counts(np.array(hits), both=np.array(both)))


def _read(
    path: Path, names: Sequence[str], sources: Sequence[str]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """Half of the persons bool[N], and probability and target f32[N, U, 2] (NaN: not known) of a table's rows."""
    if not path.is_file():
        raise DataError(f"there is no table of scores {path}: give the scores.parquet of a run of the stage au")
    table = pq.read_table(path)
    lacking = [name for name in names if not {name, f"target_{name}"} <= set(table.column_names)]
    if lacking:
        raise DataError(
            f"{path} has no scores of {', '.join(lacking)}: give the scores.parquet of the run that trained these units"
        )
    if sources:
        table = table.filter(pc.is_in(table["source"], value_set=pa.array(list(sources))))
    if not table.num_rows:
        raise DataError(f"{path} has no rows of {', '.join(sources) or 'any data set'}")
    groups = np.unique(table["group"].to_numpy(zero_copy_only=False), return_inverse=True)[1]
    columns = [[table[key].to_numpy().astype(np.float32) for key in (name, f"target_{name}")] for name in names]
    return groups % 2 == 0, np.array(columns, np.float32).transpose(2, 0, 1)

"""Chooses the action units of an exported file: those with a sufficient F1 on held-out faces, with their thresholds.

A network trained with the weights of eq. (1) overestimates rare units, each to a different degree. Here each unit gets
the threshold with the largest F1, and its logit is shifted so that this threshold becomes 0.5. The F1 that decides
whether a unit is kept uses two-fold cross-validation: the threshold of one half of the persons on the other half.
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
from femae.metrics.calibration import best_thresholds
from femae.metrics.f1 import f1_from_counts

__all__ = ["MIN_SHOWN", "UnitChoice", "choose_units"]

MIN_SHOWN: Final = 40  # least number of faces that show a unit, and of faces that do not

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitChoice:
    """F1 of every unit (NaN: too few faces), and logit offsets of those that are kept."""

    f1: dict[str, float]
    offsets: dict[str, float]  # added to the raw logits, in the order of `names`


def choose_units(
    tables: Sequence[Path], *, names: Sequence[str], least_f1: float, sources: Sequence[str] = ()
) -> UnitChoice:
    """Choose units by tables of scores (training.scores) of faces that the network was not trained on.

    names: the units of the network; least_f1: 0..1, units below it are dropped; sources: use only rows of these data
    sets. Raises DataError if a table is missing, has no such rows or lacks a unit.
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
            threshold = float(np.clip(_best_threshold(probs, shown), 1e-6, 1 - 1e-6))
            offsets[name] = round(float(np.log1p(-threshold) - np.log(threshold)), 6)
    return UnitChoice(f1=f1, offsets=offsets)


def _best_threshold(probs: Floats, shown: npt.NDArray[np.bool_]) -> float:
    return float(best_thresholds(probs[:, None], shown[:, None].astype(np.float64))[0])


def _cross_f1(probs: Floats, shown: npt.NDArray[np.bool_], half: npt.NDArray[np.bool_]) -> float:
    """F1 with the threshold of each half applied to the other; NaN if a half has too few faces."""
    hits = both = 0
    for part in (half, ~half):
        if min(shown[part].sum(), (~shown[part]).sum()) < MIN_SHOWN / 2:
            return float("nan")
        predicted = probs[~part] >= _best_threshold(probs[part], shown[part])
        hits += int((predicted & shown[~part]).sum())
        both += int(predicted.sum() + shown[~part].sum())
    return float(f1_from_counts(np.array(hits), both=np.array(both)))


def _read(
    path: Path, names: Sequence[str], sources: Sequence[str]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """For the rows of a table: the half of the person bool[N], probability and target f32[N, U, 2] (NaN: unknown)."""
    if not path.is_file():
        raise DataError(f"there is no table of scores {path}: give the scores.parquet of a run of the stage au")
    table = pq.read_table(path)
    missing = [name for name in names if not {name, f"target_{name}"} <= set(table.column_names)]
    if missing:
        raise DataError(
            f"{path} has no scores of {', '.join(missing)}: give the scores.parquet of the run that trained these units"
        )
    if sources:
        table = table.filter(pc.is_in(table["source"], value_set=pa.array(list(sources))))
    if not table.num_rows:
        raise DataError(f"{path} has no rows of {', '.join(sources) or 'any data set'}")
    groups = np.unique(table["group"].to_numpy(zero_copy_only=False), return_inverse=True)[1]
    columns = [[table[key].to_numpy().astype(np.float32) for key in (name, f"target_{name}")] for name in names]
    return groups % 2 == 0, np.array(columns, np.float32).transpose(2, 0, 1)

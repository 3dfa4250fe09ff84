"""The scores table: a model's probabilities for labelled faces, with the labels; for evaluate, report and k-fold."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from femae.data.store.shards import ACTION_UNITS
from femae.files import replacing
from femae.labels import EMOTIONS, NO_EXPRESSION
from femae.training.loader.sets import FaceSet

__all__ = ["read_none", "read_scores", "scores_table", "write_table"]

Floats = npt.NDArray[np.float32]


def scores_table(
    faces: FaceSet,
    *,
    probs: Floats | None = None,
    none_probs: Floats | None = None,
    au_probs: Floats | None = None,
    au_names: Sequence[str] = (),
) -> pa.Table:
    """A table of probs f32[N, 6] and au_probs f32[N, A] for the N faces of a set, with targets (null: unknown).

    none_probs f32[N, 1] (or f32[N, 0]): probability of none of the six emotions.
    """
    columns: dict[str, Any] = {
        name: pa.array(faces.strings(name), pa.string()) for name in ("source", "key", "group", "split")
    }
    columns["fold"] = pa.array(faces.fold, pa.int8())
    columns["class_name"] = pa.array(faces.strings("class_name"), pa.string())
    if probs is not None:
        columns |= _columns(EMOTIONS, probs, faces.targets, faces.mask)
    if none_probs is not None and none_probs.size:
        columns[NO_EXPRESSION] = pa.array(none_probs[:, 0].astype(np.float32))
    if au_probs is not None and au_names:
        units = [ACTION_UNITS.index(name) for name in au_names]
        columns |= _columns(au_names, au_probs, faces.au_targets[:, units], faces.au_mask[:, units])
    return pa.table(columns)


def _columns(names: Sequence[str], probs: Floats, targets: Floats, mask: npt.NDArray[np.bool_]) -> Mapping[str, Any]:
    columns: dict[str, Any] = {name: pa.array(probs[:, j].astype(np.float32)) for j, name in enumerate(names)}
    for j, name in enumerate(names):
        columns[f"target_{name}"] = pa.array(targets[:, j].astype(np.float32), mask=~mask[:, j])
    return columns


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file atomically."""
    with replacing(path) as partial:
        pq.write_table(table, partial, compression="zstd")


def read_scores(path: Path) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    """probs f32[N, 6], targets f32[N, 6] (0 where unknown) and mask bool[N, 6] of a scores table."""
    table = pq.read_table(path)
    probs = np.stack([np.asarray(table.column(name).to_numpy()) for name in EMOTIONS], 1)
    raw = np.stack([np.asarray(table.column(f"target_{name}").to_numpy(), np.float32) for name in EMOTIONS], 1)
    mask = ~np.isnan(raw)
    return probs.astype(np.float32), np.where(mask, raw, 0).astype(np.float32), mask


def read_none(path: Path) -> Floats:
    """The probability f32[N, 1] of none of the six in a scores table; f32[N, 0] where it has none."""
    table = pq.read_table(path)
    if NO_EXPRESSION not in table.column_names:
        return np.zeros((table.num_rows, 0), np.float32)
    return np.asarray(table.column(NO_EXPRESSION).to_numpy(), np.float32)[:, None]

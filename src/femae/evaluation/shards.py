"""A model run on the pictures of a folder of shards: a table of scores, with the manifest's columns beside them.

Pictures go through what `femae predict --faces whole` does to them: the frame of margin 1, dark ones brought to light.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from rich.console import Console
from rich.progress import Progress

from femae.compound.expression import ExpressionRule
from femae.data.store.manifest import Manifest, numbers, read_manifest
from femae.data.store.shard_reader import load_pictures
from femae.data.store.shards import ACTION_UNITS
from femae.engine.spec import Engine
from femae.errors import DataError
from femae.evaluation.expressions import with_expression
from femae.faces.pixels import lift_crop
from femae.labels import EMOTIONS

__all__ = ["chosen_rows", "score_shards"]

_AT_ONCE: Final = 256  # pictures in memory and in one call of the network
_LISTS: Final = ("box_xyxy", "landmarks", "frame_to_crop", "targets", "mask", "au_targets", "au_mask")


def chosen_rows(folder: Path, *, split: str) -> Manifest:
    """The rows of one split (empty: all) that have a label. Raises DataError where that leaves none."""
    manifest = read_manifest(folder)
    splits = np.array(manifest.strings("split"))
    chosen = (splits == split) if split else np.ones(len(manifest), np.bool_)
    if not chosen.any():
        there = ", ".join(repr(name) for name in dict.fromkeys(splits.tolist()))
        raise DataError(f"{folder} has no sample of the split '{split}'; its splits are {there or 'none'}")
    labelled = manifest.vectors("mask").any(1) | manifest.vectors("au_mask").any(1)
    if not (chosen & labelled).any():
        raise DataError(f"{folder} has no labelled sample" + (f" in the split '{split}'" if split else ""))
    return manifest.select(np.asarray(chosen & labelled, np.bool_))


def score_shards(
    manifest: Manifest, *, engine: Engine, rule: ExpressionRule, num_threads: int, quiet: bool = False
) -> pa.Table:
    """Columns of a table of scores (probabilities, targets with null for unknown), the manifest's others, the label."""
    size = engine.spec.image_size
    probs = np.empty((len(manifest), len(EMOTIONS)), np.float32)
    au_probs = np.empty((len(manifest), len(engine.spec.au_names)), np.float32)
    none_probs = np.empty((len(manifest), int(engine.spec.says_none)), np.float32)
    # in the order of the shards, so that each is read once
    order = np.lexsort((numbers(manifest.table, "row"), np.array(manifest.strings("shard"))))
    parts = [order[start : start + _AT_ONCE] for start in range(0, len(order), _AT_ONCE)]

    def run(part: npt.NDArray[np.intp]) -> int:
        crops = load_pictures(manifest, size=size, positions=part)
        given = engine.run(np.stack([lift_crop(crop) for crop in crops]))
        probs[part], au_probs[part], none_probs[part] = given
        return len(part)

    console = Console(stderr=True)
    with (
        Progress(console=console, transient=True, disable=quiet or not console.is_terminal) as progress,
        ThreadPoolExecutor(num_threads) as pool,
    ):
        task = progress.add_task("pictures", total=len(order))
        for count in pool.map(run, parts):
            progress.advance(task, count)
    table = _table(manifest, probs, au_probs, engine.spec.au_names)
    return with_expression(table, rule, np.concatenate([probs, none_probs], axis=1))


def _table(
    manifest: Manifest, probs: npt.NDArray[np.float32], au_probs: npt.NDArray[np.float32], au_names: tuple[str, ...]
) -> pa.Table:
    columns: dict[str, Any] = {
        name: manifest.table.column(name) for name in ("source", "key", "group", "split", "class_name")
    }
    columns["fold"] = pa.array(np.full(len(manifest), -1, np.int8))
    targets, mask = manifest.vectors("targets"), manifest.vectors("mask")
    for place, name in enumerate(EMOTIONS):
        columns[name] = pa.array(probs[:, place])
        columns[f"target_{name}"] = pa.array(targets[:, place], mask=~mask[:, place])
    targets, mask = manifest.vectors("au_targets"), manifest.vectors("au_mask")
    for place, unit_name in enumerate(au_names):
        columns[unit_name] = pa.array(au_probs[:, place])
        unit = ACTION_UNITS.index(unit_name)
        columns[f"target_{unit_name}"] = pa.array(targets[:, unit], mask=~mask[:, unit])
    others = [name for name in manifest.table.column_names if name not in columns and name not in _LISTS]
    columns.update({name: manifest.table.column(name) for name in others})
    return pa.table(columns)

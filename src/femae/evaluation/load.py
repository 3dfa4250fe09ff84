"""Loads the samples of `femae evaluate` from shards, from a table of scores, or from predictions and labels.

For shards a model is run on their pictures, which are preprocessed as in `femae predict --faces whole`: a crop with
margin 1, dark ones brightened.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from rich.console import Console
from rich.progress import Progress

from femae.compound.expression import ExpressionRule
from femae.config.evaluate import EvaluateConfig
from femae.cores import num_cores
from femae.data.store.manifest import Manifest, numbers, read_manifest
from femae.data.store.shard_reader import load_pictures
from femae.data.store.shards import ACTION_UNITS
from femae.engine.load import load_engine
from femae.engine.spec import Engine
from femae.errors import ConfigError, DataError
from femae.evaluation.expressions import given_answers, with_expression
from femae.evaluation.join import joined_rows, merge_faces, probabilities
from femae.evaluation.labels import Labels, Samples, has_labels, read_labels
from femae.evaluation.tables import read_table, text_column
from femae.faces.pixels import brighten_crop
from femae.inference.predictor import shipped_model
from femae.labels import EMOTIONS, Compound, parse_class_set

__all__ = ["chosen_rows", "load_samples", "load_table", "score_shards"]

_GROUPS = ("group", "person", "subject", "video")
_BATCH: Final = 256  # pictures per call of the network
_LIST_COLUMNS: Final = ("box_xyxy", "landmarks", "frame_to_crop", "targets", "mask", "au_targets", "au_mask")


def load_table(config: EvaluateConfig) -> tuple[pa.Table, str]:
    """The table of probabilities, and the name of the model if one was run for it (else empty). Raises FemaeError."""
    if not config.input.is_dir():
        if config.model is not None:
            raise ConfigError(f"--model is for a folder of shards; {config.input} is a table that already has scores")
        return read_table(config.input), ""
    manifest = chosen_rows(config.input, split=config.split)
    threads = config.threads or num_cores()
    with nullcontext(config.model) if config.model is not None else shipped_model(engine=config.engine) as path:
        engine = load_engine(path, engine=config.engine)
    rule = ExpressionRule(parse_class_set(config.classes), params=engine.spec.expression)
    table = score_shards(manifest, engine=engine, rule=rule, num_threads=threads, quiet=config.quiet)
    return table, f"{engine.spec.name} {engine.spec.version}".strip()


def load_samples(config: EvaluateConfig, table: pa.Table, *, compounds: tuple[Compound, ...]) -> Samples:
    """Samples of the table, with its own labels or those of `--labels`. Raises DataError if there are none."""
    if config.labels is not None:
        return _joined(config, table, compounds=compounds)
    if not has_labels(table, alone=False):
        raise DataError(
            f"{config.input} holds no labels (columns target_surprise, ...): give a table of labels with --labels"
        )
    table = _filter_split(table, config.split, path=config.input)
    labels = _labels(config, table, path=config.input, compounds=compounds, alone=False)
    probs = probabilities(table, EMOTIONS, path=config.input)
    labels, au_probs = _action_units(labels, table, path=config.input)
    samples = Samples(
        probs=probs,
        au_probs=au_probs,
        labels=labels,
        groups=_groups(table, name=config.group, path=config.input, source=""),
        columns=table,
        answers=given_answers(table, compounds=compounds, path=config.input),
    )
    return _apply_missing(samples, config)


def _labels(
    config: EvaluateConfig, table: pa.Table, *, path: Path, compounds: tuple[Compound, ...], alone: bool
) -> Labels:
    return read_labels(
        table,
        path=path,
        compounds=compounds,
        compound_labels=config.compound_labels,
        label_order=config.label_order,
        alone=alone,
    )


def _joined(config: EvaluateConfig, table: pa.Table, *, compounds: tuple[Compound, ...]) -> Samples:
    assert config.labels is not None
    truth = read_table(config.labels)
    if not has_labels(truth, alone=True):
        raise DataError(
            f"{config.labels} holds no labels: expected a column class_name, emotion or compound, the ten vote columns "
            f"of FER+, target_surprise and so on, or action units; it has {', '.join(truth.column_names)}"
        )
    truth = _filter_split(truth, config.split, path=config.labels)
    labels = _labels(config, truth, path=config.labels, compounds=compounds, alone=True)
    probs = probabilities(table, EMOTIONS, path=config.input)
    labels, au_probs = _action_units(labels, table, path=config.input)
    rows, name = joined_rows(table, truth, paths=(config.input, config.labels), on=config.key)
    merged, chosen = merge_faces(
        table, np.concatenate([probs, au_probs], axis=1), rows=rows, several=config.faces, path=config.input
    )
    num_without = int((chosen < 0).sum())
    notes = [f"{num_without:,} of {len(chosen):,} labelled rows have no row in {config.input.name}"] * bool(num_without)
    samples = Samples(
        probs=merged[:, : len(EMOTIONS)],
        au_probs=merged[:, len(EMOTIONS) :],
        labels=labels,
        groups=_groups(truth, name=config.group, path=config.labels, source=name),
        columns=_combined_columns(truth, table, chosen),
        answers=given_answers(table, compounds=compounds, path=config.input, rows=chosen),
        notes=tuple(notes),
    )
    return _apply_missing(samples, config)


def _apply_missing(samples: Samples, config: EvaluateConfig) -> Samples:
    """Apply `--missing`. Raises DataError if no labelled sample is left."""
    if config.missing == "leave-out":
        samples = samples.select(samples.found)
    labels = samples.labels
    if not (labels.mask.any() or (labels.compound >= 0).any() or labels.au_mask.any()):
        where = config.labels or config.input
        raise DataError(f"no sample of {where} has a label that counts: see the forms of labels in docs/evaluate.md")
    return samples


def _filter_split(table: pa.Table, split: str, *, path: Path) -> pa.Table:
    if not split:
        return table
    values = np.array(text_column(table, "split"))
    if not (values == split).any():
        known = ", ".join(repr(name) for name in dict.fromkeys(values.tolist()))
        raise DataError(f"{path} has no row of the split '{split}'; its splits are {known}")
    return table.filter(pa.array(values == split))


def _action_units(labels: Labels, table: pa.Table, *, path: Path) -> tuple[Labels, npt.NDArray[np.float32]]:
    """Labels of the action units in the table, and the table's probabilities f32[N, A] of these."""
    kept = [index for index, name in enumerate(labels.au_names) if name in table.column_names]
    names = tuple(labels.au_names[index] for index in kept)
    labels = replace(labels, au_names=names, au_targets=labels.au_targets[:, kept], au_mask=labels.au_mask[:, kept])
    return labels, probabilities(table, names, path=path)


def _groups(table: pa.Table, *, name: str, path: Path, source: str) -> npt.NDArray[np.int64]:
    """The group number i64[N] of each row, from the column `name`, else a column of _GROUPS, else `source`."""
    if name and name not in table.column_names:
        raise DataError(f"{path} has no column '{name}'; it has {', '.join(table.column_names)}")
    name = name or next((column for column in _GROUPS if column in table.column_names), source)
    texts = text_column(table, name) if name else [str(row) for row in range(table.num_rows)]
    texts = [text or f"\0{row}" for row, text in enumerate(texts)]  # without a group: its own one
    return np.asarray(np.unique(np.array(texts), return_inverse=True)[1], np.int64)


def _combined_columns(truth: pa.Table, table: pa.Table, chosen: npt.NDArray[np.int64]) -> pa.Table:
    """The columns of `truth`, then the other ones of `table`, taken by row `chosen` (-1: null)."""
    taken: Any = pa.array(chosen, mask=chosen < 0)
    for name in table.column_names:
        if name not in truth.column_names:
            truth = truth.append_column(name, table.column(name).take(taken))
    return truth


def chosen_rows(folder: Path, *, split: str) -> Manifest:
    """The labelled rows of one split (empty: all). Raises DataError if there are none."""
    manifest = read_manifest(folder)
    splits = np.array(manifest.strings("split"))
    chosen = (splits == split) if split else np.ones(len(manifest), np.bool_)
    if not chosen.any():
        known = ", ".join(repr(name) for name in dict.fromkeys(splits.tolist()))
        raise DataError(f"{folder} has no sample of the split '{split}'; its splits are {known or 'none'}")
    labelled = manifest.vectors("mask").any(1) | manifest.vectors("au_mask").any(1)
    if not (chosen & labelled).any():
        raise DataError(f"{folder} has no labelled sample" + (f" in the split '{split}'" if split else ""))
    return manifest.select(np.asarray(chosen & labelled, np.bool_))


def score_shards(
    manifest: Manifest, *, engine: Engine, rule: ExpressionRule, num_threads: int, quiet: bool = False
) -> pa.Table:
    """A table of scores: probabilities, targets (null: unknown), other columns of the manifest, and the expression."""
    size = engine.spec.image_size
    probs = np.empty((len(manifest), len(EMOTIONS)), np.float32)
    au_probs = np.empty((len(manifest), len(engine.spec.au_names)), np.float32)
    none_probs = np.empty((len(manifest), int(engine.spec.says_none)), np.float32)
    # in shard order, so that each shard is read once
    order = np.lexsort((numbers(manifest.table, "row"), np.array(manifest.strings("shard"))))
    parts = [order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]

    def run(part: npt.NDArray[np.intp]) -> int:
        crops = load_pictures(manifest, size=size, positions=part)
        outputs = engine.run(np.stack([brighten_crop(crop) for crop in crops]))
        probs[part], au_probs[part], none_probs[part] = outputs
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
    for index, name in enumerate(EMOTIONS):
        columns[name] = pa.array(probs[:, index])
        columns[f"target_{name}"] = pa.array(targets[:, index], mask=~mask[:, index])
    targets, mask = manifest.vectors("au_targets"), manifest.vectors("au_mask")
    for index, unit_name in enumerate(au_names):
        columns[unit_name] = pa.array(au_probs[:, index])
        unit = ACTION_UNITS.index(unit_name)
        columns[f"target_{unit_name}"] = pa.array(targets[:, unit], mask=~mask[:, unit])
    others = [name for name in manifest.table.column_names if name not in columns and name not in _LIST_COLUMNS]
    columns.update({name: manifest.table.column(name) for name in others})
    return pa.table(columns)

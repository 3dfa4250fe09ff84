"""Compares an exported file with its weights: probabilities on the same crops, F1 on labelled crops, and time.

Crops come from shards and are preprocessed as in `predict`.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from femae.data.store.manifest import Manifest, read_manifest
from femae.data.store.shard_reader import load_pictures
from femae.engine.spec import Engine
from femae.errors import DataError
from femae.faces.pixels import brighten_crop
from femae.labels import EMOTIONS
from femae.metrics.f1 import au_f1, macro_f1
from femae.metrics.hard_labels import top_emotion

__all__ = [
    "F1",
    "Parity",
    "compare_f1",
    "labelled_rows",
    "noise_crops",
    "parity",
    "read_crops",
    "sample_crops",
    "time_per_crop",
]

Crops = npt.NDArray[np.uint8]  # u8[N, S, S, 3] RGB

_READ_BATCH = 256  # crops read together
_RUN_BATCH = 64  # crops per call of the engine


def sample_crops(folder: Path, *, size: int, count: int, seed: int = 0) -> Crops:
    """At most `count` random crops, in random order, from the split train if the folder has one.

    Raises DataError for fewer than two faces.
    """
    manifest = read_manifest(folder)
    splits = np.array(manifest.strings("split"))
    rows = np.flatnonzero(splits == "train") if (splits == "train").any() else np.arange(len(splits))
    if len(rows) < 2:
        raise DataError(f"{folder} has {len(rows)} faces; calibration needs at least 2, preferably a few hundred")
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(rows, min(count, len(rows)), replace=False))
    crops = np.concatenate(list(read_crops(manifest, size=size, positions=chosen)))
    return crops[rng.permutation(len(crops))]


def labelled_rows(folder: Path, *, sources: Sequence[str], splits: Sequence[str]) -> Manifest:
    """Rows with a known emotion or action unit; without `splits`, all splits but train if there are others.

    Raises DataError, with the existing sources and splits, if no row is left.
    """
    manifest = read_manifest(folder)
    source, split = (np.array(manifest.strings(column)) for column in ("source", "split"))
    known = manifest.vectors("mask").any(1) | manifest.vectors("au_mask").any(1)
    keep = known & np.isin(source, sources or source)
    if splits:
        keep &= np.isin(split, splits)
    elif (keep & (split != "train")).any():
        keep &= split != "train"
    if not keep.any():
        available = sorted(
            {f"{name} ({part or 'no split'})" for name, part in zip(source[known], split[known], strict=True)}
        )
        raise DataError(f"{folder} has no such rows with labels; it has {', '.join(available) or 'no labels at all'}")
    return manifest.select(keep)


def read_crops(manifest: Manifest, *, size: int, positions: npt.NDArray[np.intp] | None = None) -> Iterator[Crops]:
    """Yields the crops of the rows at `positions` (default: all) in batches, dark ones brightened as in `predict`."""
    rows = np.arange(len(manifest)) if positions is None else positions
    for start in range(0, len(rows), _READ_BATCH):
        pictures = load_pictures(manifest, size=size, positions=rows[start : start + _READ_BATCH])
        yield np.stack([brighten_crop(picture) for picture in pictures])


def noise_crops(*, size: int, count: int, seed: int = 0) -> Crops:
    """Smooth coloured noise u8[count, size, size, 3], to measure parity without real faces."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 6, 6, 3)).astype(np.float32)
    position = np.linspace(0, 5, size)
    low = np.minimum(position.astype(np.intp), 4)
    part = (position - low).astype(np.float32)
    rows = coarse[:, low] * (1 - part)[:, None, None] + coarse[:, low + 1] * part[:, None, None]
    full = rows[:, :, low] * (1 - part)[:, None] + rows[:, :, low + 1] * part[:, None]
    return np.asarray(full, np.uint8)


@dataclass(frozen=True, kw_only=True, slots=True)
class Parity:
    """Absolute differences of the probabilities, over emotions and action units together."""

    largest: float
    mean: float
    same_emotion: float  # share of crops with the same strongest emotion
    num_crops: int


@dataclass(frozen=True, kw_only=True, slots=True)
class F1:
    """F1 before (weights) and after (exported file); NaN without labels."""

    emotions: tuple[float, float]  # macro-F1 of the strongest of the six
    num_emotions: int
    action_units: tuple[float, float]  # mean of the binary F1 at 0.5
    num_action_units: int


def parity(before: Engine, after: Engine, *, crops: Crops) -> Parity:
    """Compare two engines on the same crops u8[N, S, S, 3]."""
    pairs = [(_run(before, part), _run(after, part)) for part in _parts(crops)]
    first, second = (np.concatenate(side) for side in zip(*pairs, strict=True))
    difference = np.abs(first - second)
    top = [probs[:, : len(EMOTIONS)].argmax(1) for probs in (first, second)]
    return Parity(
        largest=float(difference.max()),
        mean=float(difference.mean()),
        same_emotion=float((top[0] == top[1]).mean()),
        num_crops=len(crops),
    )


def compare_f1(before: Engine, after: Engine, *, manifests: Iterable[Manifest]) -> F1:
    """The F1 of two engines on labelled rows of shards; emotions count if the label is clear (metrics.hard_labels)."""
    pred: tuple[list[npt.NDArray[np.float32]], ...] = ([], [])
    targets, masks, au_targets, au_masks = [], [], [], []
    for manifest in manifests:
        for crops in read_crops(manifest, size=before.spec.image_size):
            for side, engine in enumerate((before, after)):
                pred[side].extend(_run(engine, part) for part in _parts(crops))
        targets.append(manifest.vectors("targets"))
        masks.append(manifest.vectors("mask"))
        au_targets.append(_units(manifest, "au_targets", before.spec.au_names))
        au_masks.append(_units(manifest, "au_mask", before.spec.au_names).astype(bool))
    scores = [np.concatenate(side) for side in pred]
    true = top_emotion(np.concatenate(targets), mask=np.concatenate(masks))
    clear = true >= 0
    count = len(EMOTIONS)
    emotions = [
        macro_f1(side[clear, :count].argmax(1), true=true[clear], num_classes=count) if clear.any() else float("nan")
        for side in scores
    ]
    mask = np.concatenate(au_masks)
    units = [
        au_f1(side[:, count:], targets=np.concatenate(au_targets), mask=mask) if mask.any() else float("nan")
        for side in scores
    ]
    return F1(
        emotions=(emotions[0], emotions[1]),
        num_emotions=int(clear.sum()),
        action_units=(units[0], units[1]),
        num_action_units=int(mask.any(1).sum()) if mask.size else 0,
    )


def time_per_crop(engine: Engine, *, crops: Crops, batch: int = 8, seconds: float = 1.0) -> float:
    """Median milliseconds per crop in batches, over as many calls as fit into `seconds` (at least 5)."""
    part = np.resize(crops, (batch, *crops.shape[1:]))
    engine.run(part)
    times: list[float] = []
    while len(times) < 5 or sum(times) < seconds:
        start = time.perf_counter()
        engine.run(part)
        times.append(time.perf_counter() - start)
    return float(np.median(times)) / batch * 1e3


def _parts(crops: Crops) -> Iterable[Crops]:
    return (crops[start : start + _RUN_BATCH] for start in range(0, len(crops), _RUN_BATCH))


def _run(engine: Engine, crops: Crops) -> npt.NDArray[np.float32]:
    """Probabilities f32[N, 6 + A] of one batch."""
    return np.concatenate(engine.run(crops), 1)


def _units(manifest: Manifest, column: str, names: tuple[str, ...]) -> npt.NDArray[np.float32]:
    """A manifest's action units in the order of `names`, f32[N, A]; 0 for units that shards don't store."""
    from femae.data.store.shards import ACTION_UNITS

    values = manifest.vectors(column)
    out = np.zeros((len(values), len(names)), np.float32)
    for i, name in enumerate(names):
        if name in ACTION_UNITS:
            out[:, i] = values[:, ACTION_UNITS.index(name)]
    return out

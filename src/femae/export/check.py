"""What an export lost: probabilities against those of the weights on the same crops, F1 on labels, time and size."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from femae.data.store.manifest import Manifest
from femae.engine.spec import Engine
from femae.export.crops import read_crops
from femae.labels import EMOTIONS
from femae.metrics.f1 import au_f1, macro_f1
from femae.metrics.hard_labels import top_emotion

__all__ = ["F1", "Parity", "compare_f1", "parity", "time_per_crop"]

Crops = npt.NDArray[np.uint8]

_CHUNK = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Parity:
    """Differences of probabilities, of emotions and action units together."""

    largest: float
    mean: float
    same_emotion: float  # share of crops with the same strongest emotion
    num_crops: int


@dataclass(frozen=True, kw_only=True, slots=True)
class F1:
    """Before (the weights) and after (the file); NaN where there are no labels."""

    emotions: tuple[float, float]  # macro-F1 of the strongest of the six
    num_emotions: int
    action_units: tuple[float, float]  # mean of the binary F1 at 0.5
    num_action_units: int


def parity(before: Engine, after: Engine, *, crops: Crops) -> Parity:
    """Both engines on the same crops u8[N, S, S, 3]."""
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
    """The F1 of both engines on labelled rows of shards. An emotion counts where the label is clear (hard_labels)."""
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
    """Median milliseconds per crop in batches of so many, by as many calls as fit in so many seconds (at least 5)."""
    part = np.resize(crops, (batch, *crops.shape[1:]))
    engine.run(part)
    times: list[float] = []
    while len(times) < 5 or sum(times) < seconds:
        start = time.perf_counter()
        engine.run(part)
        times.append(time.perf_counter() - start)
    return float(np.median(times)) / batch * 1e3


def _parts(crops: Crops) -> Iterable[Crops]:
    return (crops[start : start + _CHUNK] for start in range(0, len(crops), _CHUNK))


def _run(engine: Engine, crops: Crops) -> npt.NDArray[np.float32]:
    """f32[N, 6 + A]."""
    return np.concatenate(engine.run(crops), 1)


def _units(manifest: Manifest, column: str, names: tuple[str, ...]) -> npt.NDArray[np.float32]:
    """Columns of a manifest's action units in the order of `names`; units that shards have no place for are unknown."""
    from femae.data.store.shards import ACTION_UNITS

    values = manifest.vectors(column)
    out = np.zeros((len(values), len(names)), np.float32)
    for i, name in enumerate(names):
        if name in ACTION_UNITS:
            out[:, i] = values[:, ACTION_UNITS.index(name)]
    return out

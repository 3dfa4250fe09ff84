"""Crops of shards as `predict` would feed them: for calibration, for parity, and with labels for the F1."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from femae.data.store.manifest import Manifest, read_manifest
from femae.data.store.shard_reader import load_pictures
from femae.errors import DataError
from femae.faces.pixels import lift_crop

__all__ = ["labelled_rows", "made_up_crops", "read_crops", "sample_crops"]

Crops = npt.NDArray[np.uint8]  # u8[N, S, S, 3] RGB

_CHUNK = 256


def sample_crops(folder: Path, *, size: int, count: int, seed: int = 0) -> Crops:
    """At most `count` crops drawn at random, in random order; from the split train where the folder has one."""
    manifest = read_manifest(folder)
    splits = np.array(manifest.strings("split"))
    rows = np.flatnonzero(splits == "train") if (splits == "train").any() else np.arange(len(splits))
    if len(rows) < 2:
        raise DataError(f"{folder} has {len(rows)} faces; calibration needs at least 2, better some hundreds")
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(rows, min(count, len(rows)), replace=False))
    crops = np.concatenate(list(read_crops(manifest, size=size, positions=chosen)))
    return crops[rng.permutation(len(crops))]


def labelled_rows(folder: Path, *, sources: Sequence[str], splits: Sequence[str]) -> Manifest:
    """Rows with a known emotion or action unit; without `splits`, all but train where there are others.

    Raises DataError when nothing is left, naming what there is.
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
        there = sorted(
            {f"{name} ({part or 'no split'})" for name, part in zip(source[known], split[known], strict=True)}
        )
        raise DataError(f"{folder} has no such rows with labels; it has {', '.join(there) or 'no labels at all'}")
    return manifest.select(keep)


def read_crops(manifest: Manifest, *, size: int, positions: npt.NDArray[np.intp] | None = None) -> Iterator[Crops]:
    """The rows at `positions` (default: all) in chunks, dark ones lifted as `predict` does."""
    rows = np.arange(len(manifest)) if positions is None else positions
    for start in range(0, len(rows), _CHUNK):
        pictures = load_pictures(manifest, size=size, positions=rows[start : start + _CHUNK])
        yield np.stack([lift_crop(picture) for picture in pictures])


def made_up_crops(*, size: int, count: int, seed: int = 0) -> Crops:
    """Smooth coloured noise, for parity where no faces are at hand."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 6, 6, 3)).astype(np.float32)
    place = np.linspace(0, 5, size)
    low = np.minimum(place.astype(np.intp), 4)
    part = (place - low).astype(np.float32)
    rows = coarse[:, low] * (1 - part)[:, None, None] + coarse[:, low + 1] * part[:, None, None]
    full = rows[:, :, low] * (1 - part)[:, None] + rows[:, :, low + 1] * part[:, None]
    return np.asarray(full, np.uint8)

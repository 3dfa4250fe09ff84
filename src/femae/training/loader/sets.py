"""What a stage trains and validates on: rows of folders of shards with labels, and their pictures.

Pictures lie in memory as u8 where they fit, or are read from the shards by worker processes. Either way a row's picture
and labels depend on its number alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from femae.config.model import ModelConfig
from femae.config.train import DataConfig
from femae.data.folds.table import read_folds
from femae.data.pseudo_aus.table import read_pseudo_aus
from femae.data.store.manifest import Manifest, read_manifest
from femae.data.store.shard_reader import load_pictures
from femae.errors import DataError

__all__ = ["FaceSet", "load_sets"]

MEMORY_BYTES: Final = 4 << 30
_PLACE: Final = ("shard", "row", "source", "split", "margin")  # of the manifest, kept while a run goes on
_LABELS: Final = ("targets", "mask", "au_targets", "au_mask")
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceSet:
    """N labelled faces. False in a mask: the label is unknown, whatever the target says."""

    manifests: tuple[Manifest, ...]  # one per folder, with all its rows
    folder: npt.NDArray[np.int32]  # i32[N], which manifest
    position: npt.NDArray[np.int64]  # i64[N], row in it
    targets: Floats  # f32[N, 6], 0..1
    mask: Bools  # bool[N, 6]
    au_targets: Floats  # f32[N, 46], order of data.shards.ACTION_UNITS
    au_mask: Bools
    fold: npt.NDArray[np.int8]  # -1: none
    pictures: npt.NDArray[np.uint8] | None = None  # u8[N, C, S, S]; None: read as they are needed
    taught: Floats | None = None  # f32[N, 6 or 13] of training.views; None: no teacher was asked beforehand

    def __len__(self) -> int:
        return len(self.folder)

    def strings(self, column: str) -> list[str]:
        """A text column of the manifests: source, key, group, split, class_name."""
        found = np.empty(len(self), object)
        for number, manifest in enumerate(self.manifests):
            here = np.flatnonzero(self.folder == number)
            if len(here):
                found[here] = manifest.text(column, self.position[here])
        return list(found)

    def codes(self, column: str) -> tuple[npt.NDArray[np.int32], list[str]]:
        """A text column as numbers i32[N] into its different values."""
        known: dict[str, int] = {}
        found = np.empty(len(self), np.int32)
        for number, manifest in enumerate(self.manifests):
            codes, names = manifest.codes(column)
            common = np.array([known.setdefault(name, len(known)) for name in names], np.int32)
            here = self.folder == number
            found[here] = common[codes[self.position[here]]]
        return found, list(known)

    def select(self, chosen: Any) -> "FaceSet":
        """The rows of a bool mask or of row numbers."""
        names: tuple[str, ...] = ("folder", "position", "targets", "mask", "au_targets", "au_mask", "fold")
        names += tuple(name for name in ("pictures", "taught") if getattr(self, name) is not None)
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})

    def blocks(self) -> npt.NDArray[np.int64]:
        """The unit of reading i64[N] of each row: row groups of the shards, numbered over all folders."""
        found, known = np.empty(len(self), np.int64), 0
        for number, manifest in enumerate(self.manifests):
            here = np.flatnonzero(self.folder == number)
            places = self.position[here]
            groups = manifest.codes("shard")[0][places].astype(np.int64) << 32 | manifest.numbers("row")[places] // 256
            different, inverse = np.unique(groups, return_inverse=True)
            found[here] = inverse + known
            known += len(different)
        return found

    def read(self, rows: npt.NDArray[np.int64], *, model: ModelConfig) -> npt.NDArray[np.uint8]:
        """Pictures u8[K, C, S, S] of rows, from memory or from the shards."""
        if self.pictures is not None:
            return self.pictures[rows]
        size = model.image_size
        out = np.empty((len(rows), model.in_chans, size, size), np.uint8)
        for number, manifest in enumerate(self.manifests):
            here = np.flatnonzero(self.folder[rows] == number)
            if len(here):
                places = self.position[rows[here]]
                loaded = load_pictures(manifest, size=size, gray=model.in_chans == 1, positions=places)
                out[here] = loaded.transpose(0, 3, 1, 2)
        return out

    def in_memory(self, model: ModelConfig) -> "FaceSet":
        """The same with its pictures in memory."""
        return replace(self, pictures=self.read(np.arange(len(self)), model=model))

    def row_chunks(self, size: int) -> Iterator[npt.NDArray[np.int64]]:
        """Row numbers in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield np.arange(start, min(start + size, len(self)))


def _folder_set(number: int, folder: Path, config: DataConfig, *, labels: bool) -> FaceSet:
    manifest = read_manifest(folder, columns=_PLACE if not labels else (*_PLACE, *_LABELS))
    count = len(manifest)
    kinds: dict[str, Any] = {"targets": np.float32, "mask": np.bool_, "au_targets": np.float32, "au_mask": np.bool_}
    found = {name: np.zeros((count, 0), kind) for name, kind in kinds.items()}
    if labels:
        found = {name: manifest.vectors(name).astype(kind) for name, kind in kinds.items()}
    if labels and number < len(config.pseudo_aus):
        pseudo, known = read_pseudo_aus(config.pseudo_aus[number], read_manifest(folder))
        fresh = known & ~found["au_mask"]
        found["au_targets"] = np.where(fresh, pseudo, found["au_targets"])
        found["au_mask"] |= fresh
    fold = np.full(count, -1, np.int8)
    if config.fold is not None or config.folded_only:
        fold = read_folds(folder / "folds.parquet", manifest=read_manifest(folder)).fold
    bare = Manifest(folder=folder, table=manifest.table.select(list(_PLACE)), info=manifest.info)
    return FaceSet(
        manifests=(bare,),
        folder=np.full(count, number, np.int32),
        position=np.arange(count),
        fold=fold,
        **found,
    )


def _join(sets: Sequence[FaceSet]) -> FaceSet:
    names = ("folder", "position", "targets", "mask", "au_targets", "au_mask", "fold")
    joined = {name: np.concatenate([getattr(part, name) for part in sets]) for name in names}
    return FaceSet(manifests=tuple(part.manifests[0] for part in sets), **joined)


def _check_labels(faces: FaceSet) -> None:
    for kind, targets, mask in (
        ("emotion", faces.targets, faces.mask),
        ("action unit", faces.au_targets, faces.au_mask),
    ):
        wrong = mask & ~((targets >= 0) & (targets <= 1))  # NaN too
        if wrong.any():
            row = int(wrong.any(1).argmax())
            key = faces.select(np.array([row])).strings("key")[0]
            value = targets[row][wrong[row]][0]
            raise DataError(
                f"{int(wrong.any(1).sum())} rows have {kind} labels outside 0..1, first {key} with {value}: prepare "
                "the data anew, or see `femae data doctor`"
            )


def load_sets(config: DataConfig, model: ModelConfig, *, labels: bool = True) -> tuple[FaceSet, FaceSet]:
    """(training, validation) rows; with `fold` that fold validates and the other folds are trained on.

    Without it, rows go by their split. A row is never in both. Without `labels` none are read and the sets' columns of
    labels are empty. Raises DataError when there is nothing to train on,
    labels lie outside 0..1, or tables lack rows.
    """
    if not config.folders:
        raise DataError("data.folders names no folder of shards; `femae data prepare` and `femae data open` make them")
    folders = enumerate(config.folders)
    faces = _join([_folder_set(number, folder, config, labels=labels) for number, folder in folders])
    _check_labels(faces)
    source, sources = faces.codes("source")
    split, splits = faces.codes("split")
    unknown = {*config.sources, *config.val_sources, *config.source_weights} - set(sources)
    if unknown:
        known = ", ".join(sorted(sources))
        raise DataError(f"no row is of {', '.join(sorted(unknown))}: the folders hold {known}")
    wanted = _among(source, sources, config.sources) if config.sources else np.ones(len(faces), bool)
    val_wanted = wanted & (_among(source, sources, config.val_sources) if config.val_sources else True)
    if config.fold is not None:
        train, val = wanted & (faces.fold >= 0) & (faces.fold != config.fold), val_wanted & (faces.fold == config.fold)
    else:
        val = val_wanted & _among(split, splits, config.val_splits)
        train = wanted & _among(split, splits, config.train_splits) & ~val
    if config.folded_only:
        train &= faces.fold >= 0
    if not train.any():
        raise DataError(
            f"no row is left to train on: sources {', '.join(config.sources) or 'all'}, splits "
            f"{', '.join(name or '(none)' for name in config.train_splits)}, fold {config.fold}"
        )
    sets = []
    for chosen in (train, val):
        part = faces.select(chosen)
        sets.append(part.select(_spread(len(part), config.limit)) if config.limit else part)
    fits = sum(map(len, sets)) * model.in_chans * model.image_size**2 < MEMORY_BYTES
    if config.loader == "memory" or (config.loader == "auto" and fits):
        return sets[0].in_memory(model), sets[1].in_memory(model)
    return sets[0], sets[1]


def _among(codes: npt.NDArray[np.int32], names: list[str], chosen: Sequence[str]) -> Bools:
    """bool[N]: is the row's value one of these?"""
    return np.array([name in chosen for name in names], np.bool_)[codes]


def _spread(num_rows: int, limit: int) -> npt.NDArray[np.int64]:
    """At most `limit` row numbers, evenly over all."""
    return np.unique(np.linspace(0, num_rows - 1, min(limit, num_rows)).round().astype(np.int64))

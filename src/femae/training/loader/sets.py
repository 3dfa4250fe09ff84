"""What a stage trains and validates on: rows of folders of shards with labels, and their pictures.

Pictures lie in memory as u8 where they fit, or are read from the shards by threads. Either way a row's picture and
labels depend on its number alone. Which rows of the folders are taken is one bit a row, and where they lie is known by
shards: without labels a process needs next to no memory for a row, however many there are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from femae.config.model import ModelConfig
from femae.config.train import DataConfig
from femae.data.folds import read_folds
from femae.data.pseudo_aus.table import read_pseudo_aus
from femae.data.store.manifest import codes, read_manifest, strings, vectors
from femae.data.store.shard_reader import RowRuns, ShardReader, load_pictures
from femae.errors import DataError

__all__ = ["BLOCK_ROWS", "FaceSet", "RowMask", "load_sets"]

BLOCK_ROWS: Final = 256  # of a shard's row groups, which are read at once
MEMORY_BYTES: Final = 4 << 30
_CHUNK: Final = 1 << 16  # rows that are looked at together where all of them are gone through
_BITS: Final = 512  # rows between two known counts of Chosen
_PLACE: Final = ("shard", "row", "source", "split")  # columns of a manifest that say which rows are taken
_LABELS: Final = {"targets": np.float32, "mask": np.bool_, "au_targets": np.float32, "au_mask": np.bool_}
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


class RowMask:
    """A selection of the rows 0, 1, ... of a table, in their order, stored as one bit per row."""

    def __init__(self, bits: npt.NDArray[np.uint8], *, total: int) -> None:
        """bits u8[ceil(total / 8)] as np.packbits makes them."""
        self.total = total
        padded = np.zeros(-(-total // _BITS) * _BITS // 8, np.uint8)
        padded[: len(bits)] = bits
        self._words = padded.reshape(-1, _BITS // 8)
        counts = np.bitwise_count(self._words).sum(1, dtype=np.int64)
        self._before = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])

    @classmethod
    def of(cls, chosen: Bools) -> "RowMask":
        """Those where bool[N] is True."""
        return cls(np.packbits(chosen), total=len(chosen))

    def __len__(self) -> int:
        return int(self._before[-1])

    def __getitem__(self, numbers: Ints) -> Ints:
        """Rows i64[K] that are the numbers-th of those chosen."""
        words = np.searchsorted(self._before, numbers, side="right") - 1
        upto = np.cumsum(np.unpackbits(self._words[words], axis=1), axis=1, dtype=np.int16)  # [K, 512]
        return words * _BITS + (upto > (numbers - self._before[words])[:, None]).argmax(1)

    def before(self, rows: Ints) -> Ints:
        """How many are chosen before each row i64[K]; rows in 0..total."""
        words = np.minimum(rows // _BITS, len(self._words) - 1)
        bits = np.unpackbits(self._words[words], axis=1)  # [K, 512]
        return self._before[words] + (bits * (np.arange(_BITS) < (rows - words * _BITS)[:, None])).sum(
            1, dtype=np.int64
        )

    def mask(self, first: int, count: int) -> Bools:
        """bool[count] of the rows from `first` on."""
        start = first // _BITS
        bits = np.unpackbits(self._words[start : (first + count) // _BITS + 1])
        return bits[first - start * _BITS :][:count].astype(np.bool_)

    def chunks(self) -> Iterator[Ints]:
        """All of them, some at a time."""
        for first in range(0, self.total, _CHUNK):
            yield first + np.flatnonzero(self.mask(first, min(_CHUNK, self.total - first)))

    def keep(self, numbers: Ints) -> "RowMask":
        """Of those chosen the numbers-th, which ascend."""
        bits = np.zeros(len(self._words) * _BITS // 8, np.uint8)
        for first in range(0, len(numbers), _CHUNK):
            rows = self[numbers[first : first + _CHUNK]]
            np.bitwise_or.at(bits, rows >> 3, (128 >> (rows & 7)).astype(np.uint8))
        return RowMask(bits, total=self.total)


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceSet:
    """N labelled faces. False in a mask: the label is unknown, whatever the target says."""

    readers: tuple[ShardReader, ...]  # one per folder
    rows: RowMask  # of all rows of the folders, one folder after the other
    targets: Floats  # f32[N, 6], 0..1
    mask: Bools  # bool[N, 6]
    au_targets: Floats  # f32[N, 46], order of data.shards.ACTION_UNITS
    au_mask: Bools
    fold: npt.NDArray[np.int8]  # -1: none
    pictures: npt.NDArray[np.uint8] | None = None  # u8[N, C, S, S]; None: read as they are needed
    taught: Floats | None = None  # f32[N, 6 or 13] of tasks.teachers; None: no teacher was asked beforehand

    def __len__(self) -> int:
        return len(self.rows)

    def edges(self) -> list[int]:
        """First row of each folder among all, and the number of all."""
        return [0, *np.cumsum([len(reader) for reader in self.readers]).tolist()]

    def _tables(self, column: str) -> Iterator[pa.Table]:
        """A text column of the manifests, some rows of this set at a time."""
        first = 0
        for reader in self.readers:
            for table in reader.manifest.chunks((column,)):
                yield table.filter(pa.array(self.rows.mask(first, len(table))))
                first += len(table)

    def strings(self, column: str) -> list[str]:
        """A text column of the manifests: source, key, group, split, class_name."""
        return [text for table in self._tables(column) for text in strings(table, column)]

    def codes(self, column: str) -> tuple[npt.NDArray[np.int32], list[str]]:
        """A text column as numbers i32[N] into its different values."""
        known: dict[str, int] = {}
        found = [np.zeros(0, np.int32)]
        for table in self._tables(column):
            numbers, names = codes(table, column)
            found.append(np.array([known.setdefault(name, len(known)) for name in names], np.int32)[numbers])
        return np.concatenate(found), list(known)

    def select(self, chosen: Any) -> "FaceSet":
        """The rows of a bool mask or of row numbers, which ascend."""
        numbers = np.flatnonzero(chosen) if np.asarray(chosen).dtype == np.bool_ else np.asarray(chosen, np.int64)
        names = [*_LABELS, "fold", *(name for name in ("pictures", "taught") if getattr(self, name) is not None)]
        taken: dict[str, Any] = {name: _take(getattr(self, name), numbers) for name in names}
        return replace(self, rows=self.rows.keep(numbers), **taken)

    def blocks(self) -> Ints:
        """The units of reading, which are row groups of the shards: unit b holds the rows edges[b] to edges[b + 1] - 1.

        Returns edges i64[number of units + 1].
        """
        found = [np.zeros(1, np.int64)]
        for first, reader in zip(self.edges(), self.readers, strict=False):
            runs = reader.runs
            for (start, end), row in zip(pairwise([*runs.starts, runs.num_rows]), runs.rows, strict=True):
                ends = np.append(np.arange(start + BLOCK_ROWS - row % BLOCK_ROWS, end, BLOCK_ROWS), end)
                found.append(self.rows.before(first + ends))
        return np.unique(np.concatenate(found))

    def find(self, rows: Ints) -> Iterator[tuple[ShardReader, Ints, Ints]]:
        """For each folder that has some of the rows: its reader, which ones of `rows`, and their places in it."""
        places = self.rows[rows]
        for reader, (first, end) in zip(self.readers, pairwise(self.edges()), strict=True):
            here = np.flatnonzero((places >= first) & (places < end))
            if len(here):
                yield reader, here, places[here] - first

    def read(self, rows: Ints, *, model: ModelConfig) -> npt.NDArray[np.uint8]:
        """Pictures u8[K, C, S, S] of rows, from memory or from the shards."""
        if self.pictures is not None:
            return self.pictures[rows]
        size = model.image_size
        out = np.empty((len(rows), model.in_chans, size, size), np.uint8)
        for reader, here, places in self.find(rows):
            loaded = load_pictures(reader, size=size, gray=model.in_chans == 1, positions=places)
            out[here] = loaded.transpose(0, 3, 1, 2)
        return out

    def in_memory(self, model: ModelConfig) -> "FaceSet":
        """The same with its pictures in memory."""
        return replace(self, pictures=self.read(np.arange(len(self)), model=model))

    def row_chunks(self, size: int) -> Iterator[Ints]:
        """Row numbers in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield np.arange(start, min(start + size, len(self)))


def _take(column: npt.NDArray[Any], numbers: Ints) -> npt.NDArray[Any]:
    """Rows of a column; one whose rows are all the same one in memory stays so."""
    if column.strides[0] == 0 and len(column):
        return np.broadcast_to(column[0], (len(numbers), *column.shape[1:]))
    return column[numbers]


def _same(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The column; where all its rows are equal, with memory for one of them."""
    if len(column) and bool((column == column[0]).all()):
        return np.broadcast_to(column[0].copy(), column.shape)
    return column


@dataclass(kw_only=True, slots=True)
class _Part:
    """The rows that train, or those that validate, as the manifests are gone through."""

    bits: list[npt.NDArray[np.uint8]] = field(default_factory=list)
    rest: Bools = field(default_factory=lambda: np.zeros(0, np.bool_))  # less than a byte
    total: int = 0
    columns: dict[str, list[npt.NDArray[Any]]] = field(default_factory=dict)

    def add(self, chosen: Bools, values: dict[str, npt.NDArray[Any]]) -> None:
        """The rows that come next, with their labels."""
        rest = np.concatenate([self.rest, chosen])
        whole = len(rest) // 8 * 8
        self.bits.append(np.packbits(rest[:whole]))
        self.rest, self.total = rest[whole:], self.total + len(chosen)
        for name, column in values.items():
            self.columns.setdefault(name, []).append(_same(column[chosen]))

    def rows(self) -> RowMask:
        return RowMask(np.concatenate([*self.bits, np.packbits(self.rest)]), total=self.total)

    def column(self, name: str) -> npt.NDArray[Any]:
        """A label of all the rows."""
        parts = [part for part in self.columns[name] if len(part)]
        first = parts[0] if parts else self.columns[name][0]
        if all(len(part) and part.strides[0] == 0 and np.array_equal(part[0], first[0]) for part in parts):
            return np.broadcast_to(first[0], (sum(map(len, parts)), *first.shape[1:])) if parts else first
        return np.concatenate(parts)


class _Scan:
    """Goes through the manifests of a recipe's folders and takes the rows that train and those that validate."""

    def __init__(self, config: DataConfig, *, labels: bool) -> None:
        self._config, self._labels = config, labels
        self.train, self.val = _Part(), _Part()
        self.sources: set[str] = set()
        self._wrong: dict[str, list[str]] = {"emotion": [], "action unit": []}  # first row, and one word for each
        self.readers = tuple(self._folder(number, folder) for number, folder in enumerate(config.folders))

    def _folder(self, number: int, folder: Path) -> ShardReader:
        config = self._config
        manifest, runs = read_manifest(folder, columns=()), RowRuns(starts=[], shards=[], rows=[])
        folds = pseudo = None
        if self._labels and number < len(config.pseudo_aus):
            pseudo = read_pseudo_aus(config.pseudo_aus[number], read_manifest(folder))
        if config.fold is not None or config.folded_only:
            folds = read_folds(folder / "folds.parquet", manifest=read_manifest(folder)).fold
        reader = ShardReader(manifest, runs=runs)
        for table in manifest.chunks((*_PLACE, *(_LABELS if self._labels else ()))):
            here = slice(runs.num_rows, runs.num_rows + len(table))
            runs.add(table)
            values: dict[str, npt.NDArray[Any]] = {
                name: np.zeros((len(table), 0), kind) for name, kind in _LABELS.items()
            }
            if self._labels:
                values = {name: vectors(table, name).astype(kind) for name, kind in _LABELS.items()}
            if pseudo is not None:
                fresh = pseudo[1][here] & ~values["au_mask"]
                values["au_targets"] = np.where(fresh, pseudo[0][here], values["au_targets"])
                values["au_mask"] = values["au_mask"] | fresh
            self._check(values, reader, here.start)
            values["fold"] = np.full(len(table), -1, np.int8) if folds is None else folds[here]
            train, val = self._divide(table, values["fold"])
            self.train.add(train, values)
            self.val.add(val, values)
        return reader

    def _divide(self, table: pa.Table, fold: npt.NDArray[np.int8]) -> tuple[Bools, Bools]:
        """bool[N] each: which rows train, and which validate."""
        config = self._config
        source, sources = codes(table, "source")
        split, splits = codes(table, "split")
        self.sources.update(sources)
        wanted = _among(source, sources, config.sources) if config.sources else np.ones(len(table), np.bool_)
        val_wanted = wanted & (_among(source, sources, config.val_sources) if config.val_sources else True)
        if config.fold is not None:
            train, val = wanted & (fold >= 0) & (fold != config.fold), val_wanted & (fold == config.fold)
        else:
            val = val_wanted & _among(split, splits, config.val_splits)
            train = wanted & _among(split, splits, config.train_splits) & ~val
        return train & (fold >= 0) if config.folded_only else train, val

    def _check(self, values: dict[str, npt.NDArray[Any]], reader: ShardReader, first: int) -> None:
        """Take note of labels outside 0..1."""
        for kind, before in (("emotion", ""), ("action unit", "au_")):
            targets, mask = values[f"{before}targets"], values[f"{before}mask"]
            wrong = mask & ~((targets >= 0) & (targets <= 1))  # NaN too
            for row in np.flatnonzero(wrong.any(1)).tolist():
                found = self._wrong[kind]
                if not found:
                    key = reader.manifest.text("key", np.array([first + row]))[0]
                    found.append(f"{key} with {targets[row][wrong[row]][0]}")
                else:
                    found.append("")

    def raise_wrong(self) -> None:
        """Raises DataError for labels outside 0..1 and sources that no row has."""
        for kind, found in self._wrong.items():
            if found:
                raise DataError(
                    f"{len(found)} rows have {kind} labels outside 0..1, first {found[0]}: prepare the data again, "
                    f"or see `femae data doctor`"
                )
        config = self._config
        unknown = {*config.sources, *config.val_sources, *config.source_weights} - self.sources
        if unknown:
            known = ", ".join(sorted(self.sources))
            raise DataError(f"the folders have no data set {', '.join(sorted(unknown))}, only {known}")


def load_sets(config: DataConfig, model: ModelConfig, *, labels: bool = True) -> tuple[FaceSet, FaceSet]:
    """(training, validation) rows; with `fold` that fold validates and the other folds are trained on.

    Without it, rows go by their split. A row is never in both. Without `labels` none are read and the sets' columns of
    labels are empty. Raises DataError when there is nothing to train on, labels lie outside 0..1, or tables lack rows.
    """
    if not config.folders:
        raise DataError("data.folders names no folder of shards; `femae data prepare` and `femae data open` make them")
    scan = _Scan(config, labels=labels)
    scan.raise_wrong()
    if not len(scan.train.rows()):
        raise DataError(
            f"no rows are left to train on: sources {', '.join(config.sources) or 'all'}, splits "
            f"{', '.join(name or '(none)' for name in config.train_splits)}, fold {config.fold}"
        )
    sets = []
    for part in (scan.train, scan.val):
        columns: dict[str, Any] = {name: part.column(name) for name in (*_LABELS, "fold")}
        faces = FaceSet(readers=scan.readers, rows=part.rows(), **columns)
        sets.append(faces.select(_spread(len(faces), config.limit)) if config.limit else faces)
    fits = sum(map(len, sets)) * model.in_chans * model.image_size**2 < MEMORY_BYTES
    if config.loader == "memory" or (config.loader == "auto" and fits):
        return sets[0].in_memory(model), sets[1].in_memory(model)
    return sets[0], sets[1]


def _among(codes: npt.NDArray[np.int32], names: list[str], chosen: Sequence[str]) -> Bools:
    """bool[N]: is the row's value one of these?"""
    return np.array([name in chosen for name in names], np.bool_)[codes]


def _spread(num_rows: int, limit: int) -> Ints:
    """At most `limit` row numbers, evenly over all."""
    return np.unique(np.linspace(0, num_rows - 1, min(limit, num_rows)).round().astype(np.int64))

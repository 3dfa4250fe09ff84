"""The sets a stage trains and validates on: rows from folders of shards, with their labels and pictures.

Pictures are held in memory as u8 if they fit, otherwise threads read them from the shards. Either way a row's picture
and labels depend on its number alone. The selection of rows takes one bit per row, and their location is stored per
shard: without labels, memory hardly grows with the number of rows.
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

BLOCK_ROWS: Final = 256  # rows of a row group, the unit of reading from a shard
MEMORY_BYTES: Final = 4 << 30  # the loader `auto` holds pictures in memory up to this size
_CHUNK: Final = 1 << 16  # rows processed together when iterating over all
_BITS: Final = 512  # rows per stored count of RowMask
_SELECTION_COLUMNS: Final = ("shard", "row", "source", "split")  # manifest columns needed to select and locate rows
_LABELS: Final = {"targets": np.float32, "mask": np.bool_, "au_targets": np.float32, "au_mask": np.bool_}
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


class RowMask:
    """A selection of the rows 0, 1, ... of a table, in their order, stored as one bit per row."""

    def __init__(self, bits: npt.NDArray[np.uint8], *, total: int) -> None:
        """bits u8[ceil(total / 8)] in the order of np.packbits."""
        self.total = total
        padded = np.zeros(-(-total // _BITS) * _BITS // 8, np.uint8)
        padded[: len(bits)] = bits
        self._words = padded.reshape(-1, _BITS // 8)
        counts = np.bitwise_count(self._words).sum(1, dtype=np.int64)
        self._before = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])

    @classmethod
    def of(cls, chosen: Bools) -> "RowMask":
        """The rows where bool[N] is True."""
        return cls(np.packbits(chosen), total=len(chosen))

    def __len__(self) -> int:
        return int(self._before[-1])

    def __getitem__(self, numbers: Ints) -> Ints:
        """Rows i64[K] at the positions i64[K] within the selection."""
        words = np.searchsorted(self._before, numbers, side="right") - 1
        counts = np.cumsum(np.unpackbits(self._words[words], axis=1), axis=1, dtype=np.int16)  # [K, 512]
        return words * _BITS + (counts > (numbers - self._before[words])[:, None]).argmax(1)

    def before(self, rows: Ints) -> Ints:
        """i64[K]: the number of selected rows before each row i64[K], 0..total."""
        words = np.minimum(rows // _BITS, len(self._words) - 1)
        bits = np.unpackbits(self._words[words], axis=1)  # [K, 512]
        return self._before[words] + (bits * (np.arange(_BITS) < (rows - words * _BITS)[:, None])).sum(
            1, dtype=np.int64
        )

    def mask(self, first: int, count: int) -> Bools:
        """bool[count]: whether each row from `first` on is selected."""
        start = first // _BITS
        bits = np.unpackbits(self._words[start : (first + count) // _BITS + 1])
        return bits[first - start * _BITS :][:count].astype(np.bool_)

    def chunks(self) -> Iterator[Ints]:
        """The selected rows i64[...] in order, in chunks."""
        for first in range(0, self.total, _CHUNK):
            yield first + np.flatnonzero(self.mask(first, min(_CHUNK, self.total - first)))

    def keep(self, numbers: Ints) -> "RowMask":
        """The sub-selection at ascending positions i64[K] within this one."""
        bits = np.zeros(len(self._words) * _BITS // 8, np.uint8)
        for first in range(0, len(numbers), _CHUNK):
            rows = self[numbers[first : first + _CHUNK]]
            np.bitwise_or.at(bits, rows >> 3, (128 >> (rows & 7)).astype(np.uint8))
        return RowMask(bits, total=self.total)


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceSet:
    """N labelled faces. False in a mask: the label is unknown, whatever the target says."""

    readers: tuple[ShardReader, ...]  # one per folder
    rows: RowMask  # selection from the concatenated rows of all folders
    targets: Floats  # f32[N, 6], 0..1
    mask: Bools  # bool[N, 6]
    au_targets: Floats  # f32[N, 46], 0..1, in the order of data.store.shards.ACTION_UNITS
    au_mask: Bools  # bool[N, 46]
    fold: npt.NDArray[np.int8]  # i8[N], -1: none
    pictures: npt.NDArray[np.uint8] | None = None  # u8[N, C, S, S]; None: read on demand
    soft_targets: Floats | None = None  # f32[N, 6 or 13], soft targets from tasks.teachers

    def __len__(self) -> int:
        return len(self.rows)

    def edges(self) -> list[int]:
        """The first row of each folder among all rows, and the total number of rows."""
        return [0, *np.cumsum([len(reader) for reader in self.readers]).tolist()]

    def _tables(self, column: str) -> Iterator[pa.Table]:
        """A text column of the manifests for the rows of this set, in chunks."""
        first = 0
        for reader in self.readers:
            for table in reader.manifest.chunks((column,)):
                yield table.filter(pa.array(self.rows.mask(first, len(table))))
                first += len(table)

    def strings(self, column: str) -> list[str]:
        """A text column of the manifests (source, key, group, split, class_name), N values."""
        return [text for table in self._tables(column) for text in strings(table, column)]

    def codes(self, column: str) -> tuple[npt.NDArray[np.int32], list[str]]:
        """A text column as indices i32[N] into its distinct values, and those values."""
        known: dict[str, int] = {}
        parts = [np.zeros(0, np.int32)]
        for table in self._tables(column):
            numbers, names = codes(table, column)
            parts.append(np.array([known.setdefault(name, len(known)) for name in names], np.int32)[numbers])
        return np.concatenate(parts), list(known)

    def select(self, chosen: Any) -> "FaceSet":
        """The subset of a bool mask or of ascending row numbers."""
        numbers = np.flatnonzero(chosen) if np.asarray(chosen).dtype == np.bool_ else np.asarray(chosen, np.int64)
        names = [*_LABELS, "fold", *(name for name in ("pictures", "soft_targets") if getattr(self, name) is not None)]
        columns: dict[str, Any] = {name: _take(getattr(self, name), numbers) for name in names}
        return replace(self, rows=self.rows.keep(numbers), **columns)

    def blocks(self) -> Ints:
        """Edges i64[B + 1] of the blocks (row groups): block b holds the rows edges[b] to edges[b + 1] - 1."""
        edges = [np.zeros(1, np.int64)]
        for first, reader in zip(self.edges(), self.readers, strict=False):
            runs = reader.runs
            for (start, end), row in zip(pairwise([*runs.starts, runs.num_rows]), runs.rows, strict=True):
                ends = np.append(np.arange(start + BLOCK_ROWS - row % BLOCK_ROWS, end, BLOCK_ROWS), end)
                edges.append(self.rows.before(first + ends))
        return np.unique(np.concatenate(edges))

    def find(self, rows: Ints) -> Iterator[tuple[ShardReader, Ints, Ints]]:
        """For each folder that has some of the rows: its reader, their indices in `rows`, their positions in it."""
        positions = self.rows[rows]
        for reader, (first, end) in zip(self.readers, pairwise(self.edges()), strict=True):
            here = np.flatnonzero((positions >= first) & (positions < end))
            if len(here):
                yield reader, here, positions[here] - first

    def read(self, rows: Ints, *, model: ModelConfig) -> npt.NDArray[np.uint8]:
        """Pictures u8[K, C, S, S] of K rows, from memory or from the shards."""
        if self.pictures is not None:
            return self.pictures[rows]
        size = model.image_size
        out = np.empty((len(rows), model.in_chans, size, size), np.uint8)
        for reader, here, positions in self.find(rows):
            loaded = load_pictures(reader, size=size, gray=model.in_chans == 1, positions=positions)
            out[here] = loaded.transpose(0, 3, 1, 2)
        return out

    def in_memory(self, model: ModelConfig) -> "FaceSet":
        """The same set with its pictures in memory."""
        return replace(self, pictures=self.read(np.arange(len(self)), model=model))

    def row_chunks(self, size: int) -> Iterator[Ints]:
        """Row numbers in order, in chunks of `size`."""
        for start in range(0, len(self), size):
            yield np.arange(start, min(start + size, len(self)))


def _take(column: npt.NDArray[Any], numbers: Ints) -> npt.NDArray[Any]:
    """Rows of a column; a broadcast column stays broadcast."""
    if column.strides[0] == 0 and len(column):
        return np.broadcast_to(column[0], (len(numbers), *column.shape[1:]))
    return column[numbers]


def _compact(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The column, as a broadcast of one row if all rows are equal."""
    if len(column) and bool((column == column[0]).all()):
        return np.broadcast_to(column[0].copy(), column.shape)
    return column


@dataclass(kw_only=True, slots=True)
class _SetBuilder:
    """Collects the selection and labels of the training or validation rows, chunk by chunk."""

    bits: list[npt.NDArray[np.uint8]] = field(default_factory=list)
    rest: Bools = field(default_factory=lambda: np.zeros(0, np.bool_))  # rows that do not fill a byte yet
    total: int = 0
    columns: dict[str, list[npt.NDArray[Any]]] = field(default_factory=dict)

    def add(self, chosen: Bools, values: dict[str, npt.NDArray[Any]]) -> None:
        """Append a chunk: which of its rows are chosen bool[N], and the labels of all N by name."""
        rest = np.concatenate([self.rest, chosen])
        whole = len(rest) // 8 * 8
        self.bits.append(np.packbits(rest[:whole]))
        self.rest, self.total = rest[whole:], self.total + len(chosen)
        for name, column in values.items():
            self.columns.setdefault(name, []).append(_compact(column[chosen]))

    def rows(self) -> RowMask:
        return RowMask(np.concatenate([*self.bits, np.packbits(self.rest)]), total=self.total)

    def column(self, name: str) -> npt.NDArray[Any]:
        """A label of all chosen rows."""
        parts = [part for part in self.columns[name] if len(part)]
        first = parts[0] if parts else self.columns[name][0]
        if all(len(part) and part.strides[0] == 0 and np.array_equal(part[0], first[0]) for part in parts):
            return np.broadcast_to(first[0], (sum(map(len, parts)), *first.shape[1:])) if parts else first
        return np.concatenate(parts)


class _ManifestScan:
    """Reads the manifests of a recipe's folders and divides their rows into training and validation."""

    def __init__(self, config: DataConfig, *, labels: bool) -> None:
        self._config, self._labels = config, labels
        self.train, self.val = _SetBuilder(), _SetBuilder()
        self.sources: set[str] = set()
        self._first_invalid: dict[str, str] = {}  # by kind of label: key and value of the first one outside 0..1
        self._num_invalid = {"emotion": 0, "action unit": 0}  # rows
        self.readers = tuple(self._scan_folder(number, folder) for number, folder in enumerate(config.folders))

    def _scan_folder(self, number: int, folder: Path) -> ShardReader:
        config = self._config
        manifest, runs = read_manifest(folder, columns=()), RowRuns(starts=[], shards=[], rows=[])
        folds = pseudo = None
        if self._labels and number < len(config.pseudo_aus):
            pseudo = read_pseudo_aus(config.pseudo_aus[number], read_manifest(folder))
        if config.fold is not None or config.folded_only:
            folds = read_folds(folder / "folds.parquet", manifest=read_manifest(folder)).fold
        reader = ShardReader(manifest, runs=runs)
        for table in manifest.chunks((*_SELECTION_COLUMNS, *(_LABELS if self._labels else ()))):
            chunk = slice(runs.num_rows, runs.num_rows + len(table))
            runs.add(table)
            values: dict[str, npt.NDArray[Any]] = {
                name: np.zeros((len(table), 0), dtype) for name, dtype in _LABELS.items()
            }
            if self._labels:
                values = {name: vectors(table, name).astype(dtype) for name, dtype in _LABELS.items()}
            if pseudo is not None:  # pseudo labels only fill in what is unknown
                filled = pseudo[1][chunk] & ~values["au_mask"]
                values["au_targets"] = np.where(filled, pseudo[0][chunk], values["au_targets"])
                values["au_mask"] = values["au_mask"] | filled
            self._check(values, reader, chunk.start)
            values["fold"] = np.full(len(table), -1, np.int8) if folds is None else folds[chunk]
            train, val = self._divide(table, values["fold"])
            self.train.add(train, values)
            self.val.add(val, values)
        return reader

    def _divide(self, table: pa.Table, fold: npt.NDArray[np.int8]) -> tuple[Bools, Bools]:
        """(training, validation) bool[N] of the rows of a table."""
        config = self._config
        source, sources = codes(table, "source")
        split, splits = codes(table, "split")
        self.sources.update(sources)
        wanted = _is_in(source, sources, config.sources) if config.sources else np.ones(len(table), np.bool_)
        val_wanted = wanted & (_is_in(source, sources, config.val_sources) if config.val_sources else True)
        if config.fold is not None:
            train, val = wanted & (fold >= 0) & (fold != config.fold), val_wanted & (fold == config.fold)
        else:
            val = val_wanted & _is_in(split, splits, config.val_splits)
            train = wanted & _is_in(split, splits, config.train_splits) & ~val
        return train & (fold >= 0) if config.folded_only else train, val

    def _check(self, values: dict[str, npt.NDArray[Any]], reader: ShardReader, first: int) -> None:
        """Count rows with labels outside 0..1, and remember the first."""
        for kind, prefix in (("emotion", ""), ("action unit", "au_")):
            targets, mask = values[f"{prefix}targets"], values[f"{prefix}mask"]
            invalid = mask & ~((targets >= 0) & (targets <= 1))  # NaN too
            rows = np.flatnonzero(invalid.any(1)).tolist()
            if rows and kind not in self._first_invalid:
                key = reader.manifest.text("key", np.array([first + rows[0]]))[0]
                self._first_invalid[kind] = f"{key} with {targets[rows[0]][invalid[rows[0]]][0]}"
            self._num_invalid[kind] += len(rows)

    def raise_invalid(self) -> None:
        """Raise DataError for labels outside 0..1 and sources that no row has."""
        for kind, count in self._num_invalid.items():
            if count:
                raise DataError(
                    f"{count} rows have {kind} labels outside 0..1, first {self._first_invalid[kind]}: prepare the "
                    f"data again, or see `femae data doctor`"
                )
        config = self._config
        unknown = {*config.sources, *config.val_sources, *config.source_weights} - self.sources
        if unknown:
            known = ", ".join(sorted(self.sources))
            raise DataError(f"the folders have no data set {', '.join(sorted(unknown))}, only {known}")


def load_sets(config: DataConfig, model: ModelConfig, *, labels: bool = True) -> tuple[FaceSet, FaceSet]:
    """The (training, validation) sets: with config.fold, that fold validates and the other folds train.

    Without it, rows are divided by split. No row is in both. With `labels` False the label columns have no values.
    Raises DataError when there is nothing to train on, labels lie outside 0..1, or tables lack rows.
    """
    if not config.folders:
        raise DataError("data.folders names no folder of shards; `femae data prepare` and `femae data open` make them")
    scan = _ManifestScan(config, labels=labels)
    scan.raise_invalid()
    if not len(scan.train.rows()):
        raise DataError(
            f"no rows are left to train on: sources {', '.join(config.sources) or 'all'}, splits "
            f"{', '.join(name or '(none)' for name in config.train_splits)}, fold {config.fold}"
        )
    sets = []
    for part in (scan.train, scan.val):
        columns: dict[str, Any] = {name: part.column(name) for name in (*_LABELS, "fold")}
        faces = FaceSet(readers=scan.readers, rows=part.rows(), **columns)
        sets.append(faces.select(_evenly_spaced(len(faces), config.limit)) if config.limit else faces)
    fits = sum(map(len, sets)) * model.in_chans * model.image_size**2 < MEMORY_BYTES
    if config.loader == "memory" or (config.loader == "auto" and fits):
        return sets[0].in_memory(model), sets[1].in_memory(model)
    return sets[0], sets[1]


def _is_in(codes: npt.NDArray[np.int32], names: list[str], chosen: Sequence[str]) -> Bools:
    """bool[N]: whether the row's name is one of those chosen."""
    return np.array([name in chosen for name in names], np.bool_)[codes]


def _evenly_spaced(num_rows: int, limit: int) -> Ints:
    """At most `limit` evenly spaced row numbers, ascending."""
    return np.unique(np.linspace(0, num_rows - 1, min(limit, num_rows)).round().astype(np.int64))

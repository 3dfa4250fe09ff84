"""Folds over whole groups, balanced by label: a group is never split (paper, section 4.2: videos stay whole).

Samples belong together when they share a subject or film, or when their pictures are equal or near duplicates; joined
groups are the connected components. Groups are assigned to folds one by one, in order of their largest share of any
label, each to the fold where its labels are scarcest so far. Every data set is balanced separately, and a group that
occurs in several is balanced in all of them. The result depends on the samples and the seed, not on their order.

`femae data folds` writes a table with the fold of each sample of a folder of shards, which training reads. Samples of
their data set's `test` split are in no fold, and neither are those with the same picture, subject or film: test samples
are never trained on. The table identifies samples by source and key, so that it stays valid after a new `prepare`.

Of the other subpackages of femae.data, imports store and duplicates.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from femae.data.duplicates import THUMBNAIL_SIZE, duplicate_pairs, thumbnail
from femae.data.store.addresses import is_file, open_parquet
from femae.data.store.manifest import Manifest
from femae.data.store.shard_reader import ShardReader, decode_picture
from femae.errors import ConfigError, DataError, MissingDependencyError
from femae.files import replacing
from femae.labels import EMOTIONS

try:
    import scipy.sparse
    from scipy.sparse.csgraph import connected_components
except ImportError as error:
    raise MissingDependencyError("folds need scipy: pip install 'femae[data]'") from error

__all__ = [
    "FOLD_SCHEMA",
    "HELD_OUT",
    "FoldReport",
    "FoldRow",
    "FoldSamples",
    "Folds",
    "assign_folds",
    "check_leaks",
    "join_groups",
    "make_folds",
    "read_folds",
    "validation_fold",
    "write_folds",
]

HELD_OUT: Final = -1  # in no fold: the data set's own test split and what is joined to it
_sparse: Any = scipy.sparse  # has no type hints
_NUM_NAMED: Final = 5  # groups named in a message
Ints = npt.NDArray[np.int64]
_FIELDS: Final[list[Any]] = [
    pa.field("source", pa.string(), nullable=False),
    pa.field("key", pa.string(), nullable=False),
    pa.field("fold", pa.int8(), nullable=False),  # from 0; -1: held out
    pa.field("joined_group", pa.int64(), nullable=False),  # samples with equal numbers are never in two folds
]
FOLD_SCHEMA: Final = pa.schema(_FIELDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldSamples:
    """The samples to divide into folds: one entry per sample, identified by source and key."""

    sources: Sequence[str]
    keys: Sequence[str]
    targets: npt.NDArray[np.float32]  # f32[N, C], 0..1: emotions, then action units if there are any
    mask: npt.NDArray[np.bool_]  # bool[N, C]: known

    def __post_init__(self) -> None:
        count = len(self.sources)
        assert len(self.keys) == count and self.targets.shape == self.mask.shape == (count, self.mask.shape[1])

    def __len__(self) -> int:
        return len(self.sources)


def join_groups(groups: Sequence[str], *, digests: Sequence[str] = (), pairs: Ints | None = None) -> Ints:
    """Number of the joined group of each sample, i64[N]; samples are joined by equal group, equal digest, or a pair.

    `pairs` i64[P, 2]: positions of samples with nearly the same picture. Empty strings join nothing.
    """
    count = len(groups)
    first, second = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    next_node = count
    for names in (groups, digests):
        numbers: dict[str, int] = {}
        known = [position for position, name in enumerate(names) if name]
        first.append(np.array(known, np.int64))
        nodes = [next_node + numbers.setdefault(names[position], len(numbers)) for position in known]
        second.append(np.array(nodes, np.int64))
        next_node += len(numbers)
    if pairs is not None:
        first.append(pairs[:, 0])
        second.append(pairs[:, 1])
    rows, columns = np.concatenate(first), np.concatenate(second)
    graph = _sparse.coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(next_node, next_node))
    _, labels = connected_components(graph, directed=False)
    return np.unique(np.asarray(labels[:count], np.int64), return_inverse=True)[1].astype(np.int64)


def assign_folds(samples: FoldSamples, joined: Ints, *, num_folds: int = 5, seed: int = 0) -> npt.NDArray[np.int8]:
    """Fold 0 .. num_folds - 1 of each sample, i8[N]. `joined` i64[N]: joined groups from join_groups.

    Raises ConfigError for fewer than 2 folds, DataError when a data set with labels has fewer groups than folds.
    """
    if not 2 <= num_folds <= 100:
        raise ConfigError(f"{num_folds} folds: expected 2 to 100")
    _check_enough_groups(samples, joined, num_folds)
    counts = _group_counts(samples, joined)
    totals = np.asarray(counts.sum(0)).ravel()
    shares = counts @ _sparse.diags(1 / np.maximum(totals, 1e-12))  # share of each label in a group
    order = _group_order(samples, joined, _sparse.csr_matrix(shares), seed=seed)
    fold_of_group = _assign_greedily(_sparse.csr_matrix(shares), order, num_folds=num_folds)
    return fold_of_group[joined]


def _check_enough_groups(samples: FoldSamples, joined: Ints, num_folds: int) -> None:
    sources = np.array(samples.sources)
    for source in sorted(set(samples.sources)):
        present = len(np.unique(joined[sources == source]))
        if present < num_folds and samples.mask[sources == source].any():
            raise DataError(
                f"'{source}' has {present} groups (subjects, films, copies merged), too few for {num_folds} "
                "folds: give it subjects or films of its own, or ask for fewer folds"
            )


def _group_counts(samples: FoldSamples, joined: Ints) -> Any:
    """Sparse f64[G, columns]: the sum of each label of each data set in a group."""
    source_names = sorted(set(samples.sources))
    number = {name: position for position, name in enumerate(source_names)}
    source_of = np.array([number[name] for name in samples.sources], np.int64)
    strata = _strata(samples)
    width = strata.shape[1]
    rows, columns = np.nonzero(strata)
    return _sparse.csr_matrix(
        _sparse.coo_matrix(
            (strata[rows, columns].astype(np.float64), (joined[rows], source_of[rows] * width + columns)),
            shape=(int(joined.max(initial=-1)) + 1, len(source_names) * width),
        )
    )


def _strata(samples: FoldSamples) -> npt.NDArray[np.float32]:
    """f32[N, C + 3]: known targets, the rest of 1 (none of the emotions), whether nothing is known, and 1."""
    known = np.where(samples.mask, samples.targets, 0).astype(np.float32)
    emotions = slice(0, len(EMOTIONS))
    none = np.where(samples.mask[:, emotions].any(1), np.maximum(1 - known[:, emotions].sum(1), 0), 0)
    is_unlabelled = ~samples.mask.any(1)
    return np.column_stack([known, none, is_unlabelled, np.ones(len(samples))]).astype(np.float32)


def _group_order(samples: FoldSamples, joined: Ints, shares: Any, *, seed: int) -> Ints:
    """Groups by descending largest share of a label; ties in the order of a seeded random rank."""
    ranks = np.full(shares.shape[0], np.iinfo(np.uint64).max, np.uint64)
    own = np.array(
        [_random_rank(f"{seed}\0{source}\0{key}") for source, key in zip(samples.sources, samples.keys, strict=True)],
        np.uint64,
    )
    np.minimum.at(ranks, joined, own)
    largest = np.asarray(shares.max(axis=1).toarray()).ravel()
    return np.lexsort((ranks, -np.round(largest, 12))).astype(np.int64)


def _random_rank(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")


def _assign_greedily(shares: Any, order: Ints, *, num_folds: int) -> npt.NDArray[np.int8]:
    """Fold of each group: where the sum of squared shares grows least; in a tie the fold with fewest groups."""
    totals = np.zeros((num_folds, shares.shape[1]))
    num_groups = np.zeros(num_folds, np.int64)
    folds = np.empty(shares.shape[0], np.int8)
    starts, columns, values = shares.indptr, shares.indices, shares.data
    for group in order:
        entries = slice(starts[group], starts[group + 1])
        cost = totals[:, columns[entries]] @ values[entries]
        best = np.flatnonzero(cost <= cost.min() + 1e-15)
        fold = best[np.argmin(num_groups[best])]
        totals[fold, columns[entries]] += values[entries]
        num_groups[fold] += 1
        folds[group] = fold
    return folds


def validation_fold(folds: npt.NDArray[np.int8], *, fold: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """(training, validation) bool[N] each: the fold validates, the other folds train; held-out samples are in neither.

    Raises ConfigError when there is no such fold.
    """
    if fold not in np.unique(folds[folds != HELD_OUT]):
        raise ConfigError(f"there is no fold {fold}; expected 0 to {int(folds.max(initial=-1))}")
    return (folds != fold) & (folds != HELD_OUT), folds == fold


def check_leaks(parts: Sequence[str], *, joined: Ints, names: Sequence[str]) -> None:
    """Raise DataError when a joined group i64[N] occurs in two parts ("train", "fold 3", ...; "" counts as none).

    `names`: the name of each sample in the message, e.g. its group or source and key.
    """
    first: dict[int, int] = {}
    leaks: dict[int, tuple[int, int]] = {}
    for position, (part, group) in enumerate(zip(parts, joined.tolist(), strict=True)):
        if part and parts[first.setdefault(group, position)] != part:
            leaks.setdefault(group, (first[group], position))
    if leaks:
        examples = [
            f"'{names[a]}' ({parts[a]}) belongs with '{names[b]}' ({parts[b]})"
            for a, b in list(leaks.values())[:_NUM_NAMED]
        ]
        more = f", and {len(leaks) - _NUM_NAMED} more" if len(leaks) > _NUM_NAMED else ""
        raise DataError(
            f"{len(leaks)} groups are in more than one part, so training data leaks into the test: "
            f"{'; '.join(examples)}{more}. "
            "Make the parts with `femae data folds`, which keeps subjects, films and copies together"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldRow:
    """Counts of one fold of one data set; fold -1: held out."""

    source: str
    fold: int
    num_samples: int
    num_groups: int
    emotions: dict[str, float]  # emotion -> sum of known targets


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldReport:
    """Counts of the folds of all data sets."""

    rows: tuple[FoldRow, ...]
    num_pairs: int  # near duplicates; equal digests do not count
    num_groups: int  # of the data sets
    num_joined: int  # after joining
    largest: int  # samples of the largest joined group
    num_held_out: int  # by their data set's own split
    num_held_out_by_join: int  # further ones, joined with one of these


@dataclass(frozen=True, kw_only=True, slots=True)
class Folds:
    """The fold and the joined group of every row of a manifest, in its order."""

    fold: npt.NDArray[np.int8]  # i8[N]; HELD_OUT: in none
    joined: Ints  # i64[N]
    report: FoldReport | None = None  # None: read from a file


def make_folds(
    manifest: Manifest,
    *,
    num_folds: int = 5,
    seed: int = 0,
    hold_out: Sequence[str] = ("test",),
    max_distance: int | None = None,
    look: bool = True,
) -> Folds:
    """Make folds over all data sets of a folder of shards.

    `hold_out`: splits to leave out of the folds. `look`: compare the pictures of near duplicates, not only their
    hashes; `max_distance` in bits of the hashes (duplicates.duplicate_pairs). Raises DataError when a data set has too
    few groups or when near duplicates chain a large part of the data into one group.
    """
    groups, splits = manifest.strings("group"), manifest.strings("split")
    named = join_groups(groups)
    pairs = duplicate_pairs(
        manifest.numbers("phash").astype(np.uint64),
        groups=named,
        thumbnails=(lambda positions: _thumbnails(manifest, positions)) if look else None,
        max_distance=max_distance,
    )
    joined = join_groups(groups, digests=manifest.strings("sha256"), pairs=pairs)
    _check_chain(joined, named, num_folds=num_folds)
    own_test = np.isin(splits, list(hold_out))
    held_out = np.isin(joined, joined[own_test])
    fold = np.full(len(manifest), HELD_OUT, np.int8)
    kept = np.flatnonzero(~held_out)
    samples = _samples(manifest, kept)
    dense = np.unique(joined[kept], return_inverse=True)[1].astype(np.int64)
    fold[kept] = assign_folds(samples, dense, num_folds=num_folds, seed=seed)
    check_leaks([f"fold {number}" for number in fold], joined=joined, names=groups)
    report = FoldReport(
        rows=_rows(manifest, fold, joined),
        num_pairs=len(pairs),
        num_groups=len(np.unique(named)),
        num_joined=len(np.unique(joined)),
        largest=int(np.bincount(joined).max(initial=0)),
        num_held_out=int(own_test.sum()),
        num_held_out_by_join=int((held_out & ~own_test).sum()),
    )
    return Folds(fold=fold, joined=joined, report=report)


def _thumbnails(manifest: Manifest, positions: Ints) -> npt.NDArray[np.uint8]:
    """u8[K, 32, 32] of the rows at K different positions."""
    index = {int(position): number for number, position in enumerate(positions)}
    out = np.zeros((len(positions), THUMBNAIL_SIZE, THUMBNAIL_SIZE), np.uint8)
    for position, data in ShardReader(manifest).picture_bytes(positions):
        out[index[position]] = thumbnail(decode_picture(data))
    return out


def _check_chain(joined: Ints, named: Ints, *, num_folds: int) -> None:
    """Raise DataError when false duplicates link so many subjects into one group that no folds can be made."""
    sizes = np.bincount(joined)
    largest = int(sizes.argmax()) if len(sizes) else 0
    members = joined == largest
    num_subjects = len(np.unique(named[members]))
    if num_subjects > num_folds and members.sum() > len(joined) / num_folds:
        raise DataError(
            f"near duplicates join {num_subjects} subjects, films or pictures into one group of {members.sum()} "
            f"samples, over a fold's share of {len(joined)}: ask for a smaller max_distance, or see which pictures "
            "repeat with `femae data doctor`"
        )


def _samples(manifest: Manifest, positions: Ints) -> FoldSamples:
    sources, keys = manifest.strings("source"), manifest.strings("key")
    targets = np.concatenate([manifest.vectors("targets")[positions], manifest.vectors("au_targets")[positions]], 1)
    mask = np.concatenate([manifest.vectors("mask")[positions], manifest.vectors("au_mask")[positions]], 1)
    return FoldSamples(
        sources=[sources[position] for position in positions],
        keys=[keys[position] for position in positions],
        targets=targets.astype(np.float32),
        mask=mask.astype(np.bool_),
    )


def _rows(manifest: Manifest, fold: npt.NDArray[np.int8], joined: Ints) -> tuple[FoldRow, ...]:
    sources = np.array(manifest.strings("source"))
    known = np.where(manifest.vectors("mask"), manifest.vectors("targets"), 0)
    rows = []
    for source in sorted(set(sources.tolist())):
        for number in np.unique(fold[sources == source]).tolist():
            chosen = (sources == source) & (fold == number)
            rows.append(
                FoldRow(
                    source=source,
                    fold=int(number),
                    num_samples=int(chosen.sum()),
                    num_groups=len(np.unique(joined[chosen])),
                    emotions=dict(zip(EMOTIONS, known[chosen].sum(0).round(2).tolist(), strict=True)),
                )
            )
    return tuple(rows)


def write_folds(path: Path, folds: Folds, *, manifest: Manifest) -> None:
    """Write a table with FOLD_SCHEMA, one row per row of the manifest."""
    columns: list[Any] = [manifest.strings("source"), manifest.strings("key"), folds.fold, folds.joined]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, FOLD_SCHEMA, strict=True)]
    with replacing(path) as partial:
        pq.write_table(pa.Table.from_arrays(arrays, schema=FOLD_SCHEMA), partial)


def read_folds(path: Path, *, manifest: Manifest) -> Folds:
    """Read a table of folds for the rows of a manifest. Raises DataError when it is missing, damaged or lacks rows."""
    try:
        if not is_file(path):
            raise DataError(f"{path} does not exist: `femae data folds` makes it")
        with open_parquet(path) as file:
            table = file.read(columns=FOLD_SCHEMA.names)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} is not a table of folds ({error}): make it again with `femae data folds`") from error
    columns = [table.column(name).to_pylist() for name in FOLD_SCHEMA.names]
    known = {(source, key): (fold, joined) for source, key, fold, joined in zip(*columns, strict=True)}
    wanted = list(zip(manifest.strings("source"), manifest.strings("key"), strict=True))
    missing = [name for name in wanted if name not in known]
    if missing:
        raise DataError(
            f"{path} gives no fold to {len(missing)} samples of {manifest.folder} (e.g. {missing[0][0]}: "
            f"{missing[0][1]}): make it again with `femae data folds`"
        )
    found = [known[name] for name in wanted]
    return Folds(
        fold=np.array([fold for fold, _ in found], np.int8), joined=np.array([joined for _, joined in found], np.int64)
    )

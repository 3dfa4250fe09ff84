"""`femae data folds`: a table that gives each sample of a folder of shards its fold, and the way back from it.

Samples that their data set calls `test` are in no fold, and neither are those that show the same picture or belong to
the same subject or film: whatever is tested is not learned. The table names samples by source and key, so that it
outlives a new run of `prepare`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from femae.data.duplicates.find import duplicate_pairs
from femae.data.duplicates.phash import THUMBNAIL_SIZE, thumbnail
from femae.data.folds.assign import HELD_OUT, FoldSamples, assign_folds, check_leaks, join_groups
from femae.data.store.addresses import is_file, open_parquet
from femae.data.store.manifest import Manifest
from femae.data.store.shard_reader import ShardReader, decode_picture
from femae.data.store.shards import replace_file
from femae.errors import DataError
from femae.labels import EMOTIONS

__all__ = ["FOLD_SCHEMA", "FoldReport", "FoldRow", "Folds", "make_folds", "read_folds", "write_folds"]

_FIELDS: Final[list[Any]] = [
    pa.field("source", pa.string(), nullable=False),
    pa.field("key", pa.string(), nullable=False),
    pa.field("fold", pa.int8(), nullable=False),  # from 0; -1: held out
    pa.field("joined_group", pa.int64(), nullable=False),  # samples of one number are never in two folds
]
FOLD_SCHEMA: Final = pa.schema(_FIELDS)

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldRow:
    """What one fold holds of one data set; fold -1 is what is held out."""

    source: str
    fold: int
    num_samples: int
    num_groups: int
    emotions: dict[str, float]  # emotion -> sum of known targets


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldReport:
    """How the folds came about."""

    rows: tuple[FoldRow, ...]
    num_pairs: int  # pictures found twice, by digest not counted
    num_groups: int  # as the data sets name them
    num_joined: int  # after joining
    largest: int  # samples of the largest joined group
    num_held_out: int  # by their data set's own split
    num_held_out_by_join: int  # besides, because they belong with one of these


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

    `hold_out`: splits that stay out of the folds. `look`: compare the pictures of near duplicates, not only their
    hashes; `max_distance` in bits of the hashes (duplicates.duplicate_pairs). Raises DataError when a data set has too
    few groups or near duplicates chain a large part of the data into one group.
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
    place = {int(position): number for number, position in enumerate(positions)}
    out = np.zeros((len(positions), THUMBNAIL_SIZE, THUMBNAIL_SIZE), np.uint8)
    for position, data in ShardReader(manifest).picture_bytes(positions):
        out[place[position]] = thumbnail(decode_picture(data))
    return out


def _check_chain(joined: Ints, named: Ints, *, num_folds: int) -> None:
    """Chance likenesses that link many subjects into one group would leave nothing to fold."""
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
    """Write the table of FOLD_SCHEMA, one row per row of the manifest."""
    columns: list[Any] = [manifest.strings("source"), manifest.strings("key"), folds.fold, folds.joined]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, FOLD_SCHEMA, strict=True)]
    partial = path.with_name(f".{path.name}.partial")
    pq.write_table(pa.Table.from_arrays(arrays, schema=FOLD_SCHEMA), partial)
    replace_file(partial, target=path)


def read_folds(path: Path, *, manifest: Manifest) -> Folds:
    """Read a table of folds for the rows of a manifest. Raises DataError when it is missing, damaged or lacks rows."""
    try:
        if not is_file(path):
            raise DataError(f"{path} does not exist: `femae data folds` makes it")
        with open_parquet(path) as file:
            table = file.read(columns=FOLD_SCHEMA.names)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} is no table of folds ({error}): make it anew by `femae data folds`") from error
    columns = [table.column(name).to_pylist() for name in FOLD_SCHEMA.names]
    known = {(source, key): (fold, joined) for source, key, fold, joined in zip(*columns, strict=True)}
    wanted = list(zip(manifest.strings("source"), manifest.strings("key"), strict=True))
    missing = [name for name in wanted if name not in known]
    if missing:
        raise DataError(
            f"{path} gives no fold to {len(missing)} samples of {manifest.folder} (e.g. {missing[0][0]}: "
            f"{missing[0][1]}): make it anew by `femae data folds`"
        )
    found = [known[name] for name in wanted]
    return Folds(
        fold=np.array([fold for fold, _ in found], np.int8), joined=np.array([joined for _, joined in found], np.int64)
    )

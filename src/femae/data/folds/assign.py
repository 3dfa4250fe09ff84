"""Folds over whole groups, balanced by label: a group is never split (paper, section 4.2: videos stay whole).

Samples belong together when they share a subject or film, when their pictures are equal, and when one is nearly the
other; what belongs together through others does so too (connected components). Groups go to folds one by one, those
first that hold the largest share of any label, each to the fold where its labels are scarcest so far. Every data set
is balanced by itself, and a group that stands in several is balanced in all of them. The result depends on the
samples and the seed, not on their order.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from femae.errors import ConfigError, DataError, MissingDependencyError
from femae.labels import EMOTIONS

try:
    import scipy.sparse
    from scipy.sparse.csgraph import connected_components
except ImportError as error:
    raise MissingDependencyError("folds need scipy: pip install 'femae[data]'") from error

__all__ = ["HELD_OUT", "FoldSamples", "assign_folds", "check_leaks", "join_groups", "validation_fold"]

HELD_OUT: Final = -1  # in no fold: the data set's own test part and what is joined to it
_NAMES: Final = 5  # groups named in a message
_sparse: Any = scipy.sparse  # comes without types

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldSamples:
    """What folds are made from: one entry per sample. A source and a key together name a sample."""

    sources: Sequence[str]
    keys: Sequence[str]
    targets: npt.NDArray[np.float32]  # f32[N, C], 0..1: emotions, then action units where there are any
    mask: npt.NDArray[np.bool_]  # bool[N, C]: known

    def __post_init__(self) -> None:
        count = len(self.sources)
        assert len(self.keys) == count and self.targets.shape == self.mask.shape == (count, self.mask.shape[1])

    def __len__(self) -> int:
        return len(self.sources)


def join_groups(groups: Sequence[str], *, digests: Sequence[str] = (), pairs: Ints | None = None) -> Ints:
    """Number of the joined group of each sample, i64[N]: equal group, equal digest of the picture, or a pair.

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
    """Fold 0 .. num_folds - 1 of each sample, i8[N]. `joined` i64[N] as join_groups gives it.

    Raises ConfigError for fewer than 2 folds, DataError when a data set with labels has fewer groups than folds.
    """
    if not 2 <= num_folds <= 100:
        raise ConfigError(f"{num_folds} folds: expected 2 to 100")
    _check_enough_groups(samples, joined, num_folds)
    counts = _group_counts(samples, joined)
    totals = np.asarray(counts.sum(0)).ravel()
    shares = counts @ _sparse.diags(1 / np.maximum(totals, 1e-12))  # share of each label that a group holds
    order = _order(samples, joined, _sparse.csr_matrix(shares), seed=seed)
    fold_of_group = _greedy(_sparse.csr_matrix(shares), order, num_folds=num_folds)
    return fold_of_group[joined]


def _check_enough_groups(samples: FoldSamples, joined: Ints, num_folds: int) -> None:
    sources = np.array(samples.sources)
    for source in sorted(set(samples.sources)):
        present = len(np.unique(joined[sources == source]))
        if present < num_folds and samples.mask[sources == source].any():
            raise DataError(
                f"'{source}' has {present} groups (subjects, films, copies taken together), too few for {num_folds} "
                "folds: give it subjects or films of its own, or ask for fewer folds"
            )


def _group_counts(samples: FoldSamples, joined: Ints) -> Any:
    """Sparse f64[G, columns]: how much of each label of each data set a group holds."""
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
    """f32[N, C + 3]: each label's known target, known to be no emotion, nothing known, and one for the sample."""
    known = np.where(samples.mask, samples.targets, 0).astype(np.float32)
    emotions = slice(0, len(EMOTIONS))
    none = np.where(samples.mask[:, emotions].any(1), np.maximum(1 - known[:, emotions].sum(1), 0), 0)
    nothing = ~samples.mask.any(1)
    return np.column_stack([known, none, nothing, np.ones(len(samples))]).astype(np.float32)


def _order(samples: FoldSamples, joined: Ints, shares: Any, *, seed: int) -> Ints:
    """Groups by falling largest share of a label; of equals the one whose lot is lower."""
    lots = np.full(shares.shape[0], np.iinfo(np.uint64).max, np.uint64)
    own = np.array(
        [_lot(f"{seed}\0{source}\0{key}") for source, key in zip(samples.sources, samples.keys, strict=True)], np.uint64
    )
    np.minimum.at(lots, joined, own)
    largest = np.asarray(shares.max(axis=1).toarray()).ravel()
    return np.lexsort((lots, -np.round(largest, 12))).astype(np.int64)


def _lot(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")


def _greedy(shares: Any, order: Ints, *, num_folds: int) -> npt.NDArray[np.int8]:
    """Fold of each group: where the sum of squared shares grows least; of equals the fold with fewest groups."""
    have = np.zeros((num_folds, shares.shape[1]))
    num_groups = np.zeros(num_folds, np.int64)
    folds = np.empty(shares.shape[0], np.int8)
    starts, columns, values = shares.indptr, shares.indices, shares.data
    for group in order:
        where = slice(starts[group], starts[group + 1])
        cost = have[:, columns[where]] @ values[where]
        best = np.flatnonzero(cost <= cost.min() + 1e-15)
        fold = best[np.argmin(num_groups[best])]
        have[fold, columns[where]] += values[where]
        num_groups[fold] += 1
        folds[group] = fold
    return folds


def validation_fold(folds: npt.NDArray[np.int8], *, fold: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Training and validation samples, bool[N] each: validation is this fold of every data set, training the others.

    Held-out samples are in neither. Raises ConfigError when there is no such fold.
    """
    if fold not in np.unique(folds[folds != HELD_OUT]):
        raise ConfigError(f"there is no fold {fold}: expected 0 to {int(folds.max(initial=-1))}")
    return (folds != fold) & (folds != HELD_OUT), folds == fold


def check_leaks(parts: Sequence[str], *, joined: Ints, names: Sequence[str]) -> None:
    """Raise DataError when a joined group i64[N] stands in two parts ("train", "fold 3", ...; "" counts as none).

    `names`: what to call each sample in the message, e.g. its group or source and key.
    """
    first: dict[int, int] = {}
    leaks: dict[int, tuple[int, int]] = {}
    for position, (part, group) in enumerate(zip(parts, joined.tolist(), strict=True)):
        if part and parts[first.setdefault(group, position)] != part:
            leaks.setdefault(group, (first[group], position))
    if leaks:
        said = [
            f"'{names[a]}' ({parts[a]}) belongs with '{names[b]}' ({parts[b]})"
            for a, b in list(leaks.values())[:_NAMES]
        ]
        more = f", and {len(leaks) - _NAMES} more" if len(leaks) > _NAMES else ""
        raise DataError(
            f"{len(leaks)} groups stand in more than one part, so what is learned is tested: {'; '.join(said)}{more}. "
            "Make the parts by `femae data folds`, which keeps subjects, films and copies together"
        )

"""The doctor's checks: they take samples one by one and give findings at the end.

| kind | severity | what it says |
|---|---|---|
| missing-shard, changed-shard, damaged-shard | error | the files are not what the manifest says |
| unlisted-shard | warning | a shard that the manifest does not know |
| damaged-picture, missing-picture | error | a picture cannot be decoded, or its file is not there |
| constant-picture | warning | all pixels (nearly) the same: standard deviation of luma under 2 of 255 |
| label-range | error | a known label is not a number from 0 to 1 |
| all-masked | warning | nothing is known of some samples of a set that has labels (a note when of all) |
| key-twice | error | one key names two samples of a set |
| group-leak | error | one group (subject, film) stands in two splits |
| no-group | warning | samples without a group: folds cannot keep them together |
| exact-duplicates | warning | the same pixels twice within one set and split, in different groups |
| repeated-frames | note | the same pixels twice within one group |
| exact-duplicates-across-splits | error | the same pixels in two splits |
| exact-duplicates-across-sets | warning | the same pixels in two sets |
| duplicates-with-other-labels | warning | the same pixels with different labels |
| near-duplicates, -across-splits, -across-sets | note, warning, warning | perceptual hashes that nearly agree |
| no-positive | warning | an emotion or action unit is known, but never present |
| imbalance | note | the most frequent emotion has over 20 times the positives of the rarest |
| left-out | note | what reading and preparing left out, by cause |
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import IO, Final, Literal

import numpy as np
import numpy.typing as npt

from femae.data.doctor.scan import Item, ShardProblem
from femae.data.duplicates import THUMBNAIL_SIZE, duplicate_pairs, thumbnail
from femae.data.quality import luma
from femae.data.store.shards import ACTION_UNITS
from femae.labels import EMOTIONS

__all__ = ["Checks", "Finding", "Severity"]

Severity = Literal["error", "warning", "note"]
_EXAMPLES: Final = 8
_MIN_STD: Final = 2.0
_MAX_IMBALANCE: Final = 20.0
_SEVERITY: Final[dict[str, Severity]] = {
    "all-masked": "warning",
    "changed-shard": "error",
    "constant-picture": "warning",
    "damaged-picture": "error",
    "damaged-shard": "error",
    "duplicates-with-other-labels": "warning",
    "exact-duplicates": "warning",
    "exact-duplicates-across-sets": "warning",
    "exact-duplicates-across-splits": "error",
    "group-leak": "error",
    "imbalance": "note",
    "key-twice": "error",
    "label-range": "error",
    "left-out": "note",
    "missing-picture": "error",
    "missing-shard": "error",
    "near-duplicates": "note",
    "near-duplicates-across-sets": "warning",
    "near-duplicates-across-splits": "warning",
    "repeated-frames": "note",
    "no-group": "warning",
    "no-positive": "warning",
    "unlabelled-set": "note",
    "unlisted-shard": "warning",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One kind of fault: how often, and the first few names."""

    kind: str
    severity: Severity
    count: int
    text: str
    examples: tuple[str, ...] = ()


@dataclass(kw_only=True, slots=True)
class _Seen:
    """What is kept of a sample."""

    name: str
    source: str
    group: str
    split: str
    label: bytes
    digest: bytes
    phash: int


@dataclass(kw_only=True, slots=True)
class Checks:
    """Gathers samples; memory grows by some 500 bytes a sample, thumbnails go into a temporary file."""

    num_samples: int = 0
    classes: Counter[tuple[str, str]] = field(default_factory=Counter)  # (source, class name)
    splits: Counter[tuple[str, str]] = field(default_factory=Counter)  # (source, split)
    labels: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)  # source -> f64[3, 6 + A]
    _faults: dict[str, list[str]] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)
    _seen: list[_Seen] = field(default_factory=list)
    _thumbnails: IO[bytes] = field(default_factory=TemporaryFile)  # 1,024 bytes for each of _seen
    _keys: set[tuple[str, str]] = field(default_factory=set)
    _group_splits: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    _masked: dict[str, list[str]] = field(default_factory=dict)  # source -> names without any label
    _num_masked: Counter[str] = field(default_factory=Counter)

    def fault(self, kind: str, name: str) -> None:
        self._counts[kind] += 1
        names = self._faults.setdefault(kind, [])
        if len(names) < _EXAMPLES:
            names.append(name)

    def add(self, item: Item | ShardProblem) -> None:
        if isinstance(item, ShardProblem):
            self.fault(item.kind, item.text)
            return
        self.num_samples += 1
        self.classes[item.source, item.class_name] += 1
        self.splits[item.source, item.split] += 1
        self._check_place(item)
        self._check_labels(item)
        if item.image is None:
            self.fault("missing-picture" if item.missing else "damaged-picture", f"{item.name} ({item.problem})")
            return
        if float(luma(item.image).std()) < _MIN_STD:
            self.fault("constant-picture", item.name)
            return  # constant pictures are all alike: no duplicates of one another
        label = np.concatenate([np.where(item.mask, item.targets, -1), np.where(item.au_mask, item.au_targets, -1)])
        self._thumbnails.write(thumbnail(item.image).tobytes())
        self._seen.append(
            _Seen(
                name=item.name,
                source=item.source,
                group=item.group,
                split=item.split,
                label=label.astype(np.float32).tobytes(),
                digest=item.pixel_digest,
                phash=item.phash,
            )
        )

    def _check_place(self, item: Item) -> None:
        if (item.source, item.key) in self._keys:
            self.fault("key-twice", item.name)
        self._keys.add((item.source, item.key))
        if not item.group:
            self.fault("no-group", item.name)
        elif item.split:
            self._group_splits.setdefault((item.source, item.group), set()).add(item.split)

    def _check_labels(self, item: Item) -> None:
        values = np.concatenate([item.targets, item.au_targets]).astype(np.float64)
        mask = np.concatenate([item.mask, item.au_mask])
        if not (np.isfinite(values[mask]) & (values[mask] >= 0) & (values[mask] <= 1)).all():
            shown = ", ".join(f"{value:g}" for value in values[mask][:6])
            self.fault("label-range", f"{item.name} ({shown})")
        if not mask.any():
            self._num_masked[item.source] += 1
            names = self._masked.setdefault(item.source, [])
            if len(names) < _EXAMPLES:
                names.append(item.name)
        known = np.where(mask, np.nan_to_num(values), 0)
        sums = self.labels.setdefault(item.source, np.zeros((3, mask.size)))
        sums += np.stack([mask, known >= 0.5, known])

    def findings(self, *, left_out: Mapping[str, int], max_distance: int | None) -> list[Finding]:
        """Everything found, errors first. `max_distance`: bits in which the hashes of near duplicates
        may differ before the closer look; None: as duplicate_pairs does."""
        self._find_masked()
        self._find_leaks()
        self._find_exact()
        self._find_near(max_distance)
        self._find_balance()
        for cause, count in left_out.items():
            self._counts["left-out"] += count
            self._faults.setdefault("left-out", []).append(f"{cause}: {count}")
        order: Sequence[Severity] = ("error", "warning", "note")
        found = [
            Finding(
                kind=kind,
                severity=_SEVERITY[kind],
                count=count,
                text=_TEXTS[kind],
                examples=tuple(self._faults.get(kind, ())),
            )
            for kind, count in self._counts.items()
        ]
        return sorted(found, key=lambda one: (order.index(one.severity), one.kind))

    def _find_masked(self) -> None:
        totals = Counter[str]()
        for (source, _), count in self.classes.items():
            totals[source] += count
        for source, count in self._num_masked.items():
            if count == totals[source]:
                self.fault("unlabelled-set", f"{source}: all {count}")
            else:
                self._counts["all-masked"] += count
                self._faults.setdefault("all-masked", []).extend(self._masked[source])

    def _find_leaks(self) -> None:
        for (source, group), splits in self._group_splits.items():
            if len(splits) > 1:
                self.fault("group-leak", f"{source}: group {group} in {', '.join(sorted(splits))}")

    def _find_exact(self) -> None:
        by_digest: dict[bytes, list[_Seen]] = {}
        for one in self._seen:
            by_digest.setdefault(one.digest, []).append(one)
        for group in by_digest.values():
            if len(group) > 1:
                self.fault(_across("exact-duplicates", group), " = ".join(one.name for one in group[:4]))
                if len({one.label for one in group}) > 1:
                    self.fault("duplicates-with-other-labels", " = ".join(one.name for one in group[:4]))

    def _find_near(self, max_distance: int | None) -> None:
        """Pairs of different groups that show one picture, mirrored ones as well; equal pixels are found elsewhere."""
        hashes = np.array([one.phash for one in self._seen], np.uint64)
        names = {mark: number for number, mark in enumerate(dict.fromkeys((s.source, s.group) for s in self._seen))}
        groups = np.array([names[one.source, one.group] if one.group else -1 for one in self._seen], np.int64)
        groups[groups < 0] = len(names) + np.arange((groups < 0).sum())  # no group: each its own
        pairs = duplicate_pairs(hashes, groups=groups, thumbnails=self._thumbnails_of, max_distance=max_distance)
        for first, second in pairs.tolist():
            a, b = self._seen[first], self._seen[second]
            if a.digest != b.digest:
                self.fault(_across("near-duplicates", [a, b]), f"{a.name} ~ {b.name}")

    def _thumbnails_of(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        num_bytes = THUMBNAIL_SIZE**2
        found = np.empty((len(positions), THUMBNAIL_SIZE, THUMBNAIL_SIZE), np.uint8)
        for place, position in enumerate(positions.tolist()):
            self._thumbnails.seek(position * num_bytes)
            found[place] = np.frombuffer(self._thumbnails.read(num_bytes), np.uint8).reshape(found.shape[1:])
        return found

    def _find_balance(self) -> None:
        names = (*EMOTIONS, *ACTION_UNITS)
        for source, sums in self.labels.items():
            for name, known, positive in zip(names, sums[0], sums[1], strict=True):
                if known and not positive:
                    self.fault("no-positive", f"{source}: {name} ({known:.0f} known)")
            totals = sums[2, : len(EMOTIONS)][sums[0, : len(EMOTIONS)] > 0]
            if totals.size and totals.min() > 0 and totals.max() / totals.min() > _MAX_IMBALANCE:
                self.fault("imbalance", f"{source}: {totals.max() / totals.min():.0f} to 1")


def _across(kind: str, group: Sequence[_Seen]) -> str:
    """The kind of duplicates: of two splits, of two sets, of two groups, or of one group."""
    if len({one.split for one in group if one.split}) > 1:
        return f"{kind}-across-splits"
    if len({one.source for one in group}) > 1:
        return f"{kind}-across-sets"
    return "repeated-frames" if group[0].group and len({one.group for one in group}) == 1 else kind


_TEXTS: Final = {
    "all-masked": "samples without a known label, in a set that has labels",
    "changed-shard": "shards whose sha256 differs from the manifest's: rebuild them with `femae data prepare`",
    "constant-picture": "pictures without content",
    "damaged-picture": "pictures that cannot be decoded",
    "damaged-shard": "shards that cannot be read completely: delete them and run `femae data prepare` again",
    "duplicates-with-other-labels": "the same pixels with different labels",
    "exact-duplicates": "the same pixels more than once in one set and split; folds keep them together",
    "exact-duplicates-across-sets": "the same pixels in two sets",
    "exact-duplicates-across-splits": "the same pixels in two splits: training data leaks into the test",
    "group-leak": "a subject or film in two splits: training data leaks into the test",
    "imbalance": "emotions of very different frequency; see the weights W_j of eq. (1)",
    "key-twice": "one key names two samples",
    "label-range": "labels that are not from 0 to 1",
    "left-out": "left out while reading and preparing",
    "missing-picture": "pictures whose file is missing",
    "missing-shard": "missing shards: run `femae data prepare` again",
    "near-duplicates": "pictures that are nearly the same in two groups of one set and split; folds join them",
    "near-duplicates-across-sets": "pictures that are nearly the same in two sets",
    "near-duplicates-across-splits": "pictures that are nearly the same in two splits",
    "repeated-frames": "the same pixels more than once in one film or subject",
    "no-group": "samples without a subject or film: folds cannot keep them together",
    "no-positive": "labels that are known and never present",
    "unlabelled-set": "sets without any label: good for pretraining only",
    "unlisted-shard": "shards that the manifest does not list",
}

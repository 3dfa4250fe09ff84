"""The doctor's checks: they receive samples one by one and return findings at the end.

| kind | severity | meaning |
|---|---|---|
| missing-shard, changed-shard, damaged-shard | error | the files differ from the manifest |
| unlisted-shard | warning | a shard that is not in the manifest |
| damaged-picture, missing-picture | error | a picture cannot be decoded, or its file is missing |
| constant-picture | warning | all pixels (nearly) the same: standard deviation of luma under 2 of 255 |
| label-range | error | a known label is not a number from 0 to 1 |
| all-masked | warning | samples without a known label, in a set that has labels |
| unlabelled-set | note | a set without any label |
| key-twice | error | two samples of a set have the same key |
| group-leak | error | one group (subject, film) is in two splits |
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
    """One kind of problem: its number of occurrences, and the first few names."""

    kind: str
    severity: Severity
    count: int
    text: str
    examples: tuple[str, ...] = ()


@dataclass(kw_only=True, slots=True)
class _SampleRecord:
    """What is kept of a sample to find duplicates."""

    name: str
    source: str
    group: str
    split: str
    label: bytes
    digest: bytes
    phash: int


@dataclass(kw_only=True, slots=True)
class Checks:
    """Collects samples; memory grows by some 500 bytes per sample, thumbnails go into a temporary file."""

    num_samples: int = 0
    classes: Counter[tuple[str, str]] = field(default_factory=Counter)  # (source, class name)
    splits: Counter[tuple[str, str]] = field(default_factory=Counter)  # (source, split)
    labels: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)  # source -> f64[3, 6 + A]
    _examples: dict[str, list[str]] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)
    _records: list[_SampleRecord] = field(default_factory=list)
    _thumbnails: IO[bytes] = field(default_factory=TemporaryFile)  # 1,024 bytes per record
    _keys: set[tuple[str, str]] = field(default_factory=set)
    _group_splits: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    _masked: dict[str, list[str]] = field(default_factory=dict)  # source -> names of the first samples without a label
    _num_masked: Counter[str] = field(default_factory=Counter)

    def _count(self, kind: str, name: str) -> None:
        """Count an occurrence of a problem; the first few names are kept as examples."""
        self._counts[kind] += 1
        names = self._examples.setdefault(kind, [])
        if len(names) < _EXAMPLES:
            names.append(name)

    def add(self, item: Item | ShardProblem) -> None:
        """Examine the next sample, or count a problem of a shard."""
        if isinstance(item, ShardProblem):
            self._count(item.kind, item.text)
            return
        self.num_samples += 1
        self.classes[item.source, item.class_name] += 1
        self.splits[item.source, item.split] += 1
        self._check_place(item)
        self._check_labels(item)
        if item.image is None:
            self._count("missing-picture" if item.missing else "damaged-picture", f"{item.name} ({item.problem})")
            return
        if float(luma(item.image).std()) < _MIN_STD:
            self._count("constant-picture", item.name)
            return  # constant pictures do not count as duplicates of one another
        label = np.concatenate([np.where(item.mask, item.targets, -1), np.where(item.au_mask, item.au_targets, -1)])
        self._thumbnails.write(thumbnail(item.image).tobytes())
        self._records.append(
            _SampleRecord(
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
            self._count("key-twice", item.name)
        self._keys.add((item.source, item.key))
        if not item.group:
            self._count("no-group", item.name)
        elif item.split:
            self._group_splits.setdefault((item.source, item.group), set()).add(item.split)

    def _check_labels(self, item: Item) -> None:
        values = np.concatenate([item.targets, item.au_targets]).astype(np.float64)
        mask = np.concatenate([item.mask, item.au_mask])
        if not (np.isfinite(values[mask]) & (values[mask] >= 0) & (values[mask] <= 1)).all():
            shown = ", ".join(f"{value:g}" for value in values[mask][:6])
            self._count("label-range", f"{item.name} ({shown})")
        if not mask.any():
            self._num_masked[item.source] += 1
            names = self._masked.setdefault(item.source, [])
            if len(names) < _EXAMPLES:
                names.append(item.name)
        known = np.where(mask, np.nan_to_num(values), 0)
        sums = self.labels.setdefault(item.source, np.zeros((3, mask.size)))
        sums += np.stack([mask, known >= 0.5, known])

    def findings(self, *, left_out: Mapping[str, int], max_distance: int | None) -> list[Finding]:
        """All findings, errors first. `left_out`: counts by cause; `max_distance`: see duplicate_pairs."""
        self._find_masked()
        self._find_leaks()
        self._find_exact()
        self._find_near(max_distance)
        self._find_balance()
        for cause, count in left_out.items():
            self._counts["left-out"] += count
            self._examples.setdefault("left-out", []).append(f"{cause}: {count}")
        order: Sequence[Severity] = ("error", "warning", "note")
        findings = [
            Finding(
                kind=kind,
                severity=_SEVERITY[kind],
                count=count,
                text=_TEXTS[kind],
                examples=tuple(self._examples.get(kind, ())),
            )
            for kind, count in self._counts.items()
        ]
        return sorted(findings, key=lambda finding: (order.index(finding.severity), finding.kind))

    def _find_masked(self) -> None:
        totals = Counter[str]()
        for (source, _), count in self.classes.items():
            totals[source] += count
        for source, count in self._num_masked.items():
            if count == totals[source]:
                self._count("unlabelled-set", f"{source}: all {count}")
            else:
                self._counts["all-masked"] += count
                self._examples.setdefault("all-masked", []).extend(self._masked[source])

    def _find_leaks(self) -> None:
        for (source, group), splits in self._group_splits.items():
            if len(splits) > 1:
                self._count("group-leak", f"{source}: group {group} in {', '.join(sorted(splits))}")

    def _find_exact(self) -> None:
        by_digest: dict[bytes, list[_SampleRecord]] = {}
        for sample in self._records:
            by_digest.setdefault(sample.digest, []).append(sample)
        for group in by_digest.values():
            if len(group) > 1:
                self._count(_duplicate_kind("exact-duplicates", group), " = ".join(sample.name for sample in group[:4]))
                if len({sample.label for sample in group}) > 1:
                    self._count("duplicates-with-other-labels", " = ".join(sample.name for sample in group[:4]))

    def _find_near(self, max_distance: int | None) -> None:
        """Count near duplicates (upright or mirrored) in different groups; _find_exact counts equal pixels."""
        hashes = np.array([sample.phash for sample in self._records], np.uint64)
        numbers = {
            group: number for number, group in enumerate(dict.fromkeys((s.source, s.group) for s in self._records))
        }
        groups = np.array([numbers[s.source, s.group] if s.group else -1 for s in self._records], np.int64)
        groups[groups < 0] = len(numbers) + np.arange((groups < 0).sum())  # samples without a group are all different
        pairs = duplicate_pairs(hashes, groups=groups, thumbnails=self._thumbnails_of, max_distance=max_distance)
        for first, second in pairs.tolist():
            a, b = self._records[first], self._records[second]
            if a.digest != b.digest:
                self._count(_duplicate_kind("near-duplicates", [a, b]), f"{a.name} ~ {b.name}")

    def _thumbnails_of(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Thumbnails u8[K, 32, 32] of the records at positions i64[K]."""
        num_bytes = THUMBNAIL_SIZE**2
        out = np.empty((len(positions), THUMBNAIL_SIZE, THUMBNAIL_SIZE), np.uint8)
        for index, position in enumerate(positions.tolist()):
            self._thumbnails.seek(position * num_bytes)
            out[index] = np.frombuffer(self._thumbnails.read(num_bytes), np.uint8).reshape(out.shape[1:])
        return out

    def _find_balance(self) -> None:
        names = (*EMOTIONS, *ACTION_UNITS)
        for source, sums in self.labels.items():
            for name, known, positive in zip(names, sums[0], sums[1], strict=True):
                if known and not positive:
                    self._count("no-positive", f"{source}: {name} ({known:.0f} known)")
            totals = sums[2, : len(EMOTIONS)][sums[0, : len(EMOTIONS)] > 0]
            if totals.size and totals.min() > 0 and totals.max() / totals.min() > _MAX_IMBALANCE:
                self._count("imbalance", f"{source}: {totals.max() / totals.min():.0f} to 1")


def _duplicate_kind(kind: str, group: Sequence[_SampleRecord]) -> str:
    """The kind of duplicates: in two splits, two sets, two groups, or one group."""
    if len({sample.split for sample in group if sample.split}) > 1:
        return f"{kind}-across-splits"
    if len({sample.source for sample in group}) > 1:
        return f"{kind}-across-sets"
    return "repeated-frames" if group[0].group and len({sample.group for sample in group}) == 1 else kind


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

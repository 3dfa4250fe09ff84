"""Folds: whole groups, balanced by label, independent of the order; leaks are reported."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from femae.data.folds import (
    HELD_OUT,
    FoldSamples,
    assign_folds,
    check_leaks,
    join_groups,
    make_folds,
    read_folds,
    validation_fold,
    write_folds,
)
from femae.data.prepare.run import PrepareSettings, Workers, prepare
from femae.data.sources.folders import FolderPerClassSource
from femae.data.store.manifest import read_manifest
from femae.errors import ConfigError, DataError
from femae.labels import EMOTIONS

Ints = npt.NDArray[np.int64]


@st.composite
def data(draw: Any, *, max_group: int = 12) -> tuple[FoldSamples, list[str]]:
    """Samples of one or two data sets with groups of several sizes, hard, soft and unknown labels."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sources, groups, targets = [], [], []
    for source in draw(st.sampled_from([("a",), ("a", "b")])):
        for group in range(draw(st.integers(10, 40))):
            own = int(rng.integers(0, len(EMOTIONS)))
            for _ in range(int(rng.integers(1, draw(st.sampled_from([1, 3, max_group])) + 1))):
                sources.append(source)
                shared = rng.random() < 0.05  # a group in both sets
                groups.append(f"both/{group}" if shared else f"{source}/{group}")
                row = np.zeros(len(EMOTIONS), np.float32)
                kind = rng.random()
                row[own if kind < 0.7 else int(rng.integers(0, 6))] = 1
                targets.append(row * np.float32(kind > 0.1) if kind < 0.9 else rng.dirichlet(np.ones(6)))
    mask = np.repeat(rng.random(len(targets))[:, None] > 0.1, len(EMOTIONS), 1)
    samples = FoldSamples(
        sources=sources,
        keys=[f"{number}.jpg" for number in range(len(sources))],
        targets=np.array(targets, np.float32),
        mask=mask,
    )
    return samples, groups


def permuted(samples: FoldSamples, order: Ints) -> FoldSamples:
    return FoldSamples(
        sources=[samples.sources[i] for i in order],
        keys=[samples.keys[i] for i in order],
        targets=samples.targets[order],
        mask=samples.mask[order],
    )


@settings(max_examples=60)
@given(data(), st.integers(2, 7), st.integers(0, 9))
def test_each_sample_has_one_fold_and_no_group_is_split(
    made: tuple[FoldSamples, list[str]], num_folds: int, seed: int
) -> None:
    samples, groups = made
    joined = join_groups(groups)
    folds = assign_folds(samples, joined, num_folds=num_folds, seed=seed)
    assert folds.shape == (len(samples),) and folds.min() >= 0 and folds.max() < num_folds
    assert all(len({int(folds[i]) for i, name in enumerate(groups) if name == group}) == 1 for group in set(groups))
    check_leaks([f"fold {fold}" for fold in folds], joined=joined, names=groups)
    assert np.array_equal(folds, assign_folds(samples, joined, num_folds=num_folds, seed=seed))


@settings(max_examples=40)
@given(data(), st.integers(2, 6), st.randoms(use_true_random=False))
def test_folds_do_not_depend_on_the_order_of_samples(
    made: tuple[FoldSamples, list[str]], num_folds: int, random: Any
) -> None:
    samples, groups = made
    order = list(range(len(samples)))
    random.shuffle(order)
    positions = np.array(order, np.int64)
    straight = assign_folds(samples, join_groups(groups), num_folds=num_folds)
    moved = [groups[i] for i in order]
    shuffled = assign_folds(permuted(samples, positions), join_groups(moved), num_folds=num_folds)
    assert np.array_equal(shuffled, straight[positions])


@settings(max_examples=60)
@given(data(max_group=6), st.integers(2, 6))
def test_every_data_set_is_balanced_within_its_largest_groups(
    made: tuple[FoldSamples, list[str]], num_folds: int
) -> None:
    samples, groups = made
    joined = join_groups(groups)
    folds = assign_folds(samples, joined, num_folds=num_folds)
    known = np.where(samples.mask, samples.targets, 0)
    for source in set(samples.sources):
        own = np.array(samples.sources) == source
        largest = max(np.bincount(joined[own]))
        sizes = [int((own & (folds == fold)).sum()) for fold in range(num_folds)]
        assert max(sizes) - min(sizes) <= 3 * largest
        for label in range(len(EMOTIONS)):
            per_group = np.bincount(joined[own], known[own, label])
            sums = [known[own & (folds == fold), label].sum() for fold in range(num_folds)]
            assert max(sums) - min(sums) <= 3 * per_group.max() + 1


@settings(max_examples=40)
@given(st.lists(st.sampled_from(EMOTIONS), min_size=10, max_size=200), st.integers(2, 6), st.integers(0, 5))
def test_single_pictures_are_balanced_to_one(names: list[str], num_folds: int, seed: int) -> None:
    targets = np.array([[float(name == emotion) for emotion in EMOTIONS] for name in names], np.float32)
    samples = FoldSamples(
        sources=["a"] * len(names),
        keys=[str(number) for number in range(len(names))],
        targets=targets,
        mask=np.ones_like(targets, np.bool_),
    )
    folds = assign_folds(samples, np.arange(len(names)), num_folds=num_folds, seed=seed)
    sizes = np.bincount(folds, minlength=num_folds)
    assert sizes.max() - sizes.min() <= 2
    for label in range(len(EMOTIONS)):
        counts = np.bincount(folds, targets[:, label], minlength=num_folds)
        assert counts.max() - counts.min() <= 1


def test_the_seed_changes_the_draw() -> None:
    count = 60
    samples = FoldSamples(
        sources=["a"] * count,
        keys=[str(number) for number in range(count)],
        targets=np.zeros((count, 6), np.float32),
        mask=np.ones((count, 6), np.bool_),
    )
    first, second = (assign_folds(samples, np.arange(count), seed=seed) for seed in (0, 1))
    assert (first != second).mean() > 0.5


def test_groups_join_through_subjects_digests_and_pairs() -> None:
    groups = ["anna", "ben", "anna", "", "cleo", "", "dora"]
    digests = ["x", "y", "z", "y", "w", "", "q"]
    joined = join_groups(groups, digests=digests, pairs=np.array([[4, 2]]))
    sets = {frozenset(np.flatnonzero(joined == number).tolist()) for number in set(joined.tolist())}
    assert sets == {frozenset({0, 2, 4}), frozenset({1, 3}), frozenset({5}), frozenset({6})}
    assert join_groups([]).shape == (0,)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("uvwxyz")), max_size=25))
def test_joining_is_the_finest_split_that_keeps_names_together(rows: list[tuple[str, str]]) -> None:
    joined = join_groups([first for first, _ in rows], digests=[second for _, second in rows])
    label = list(range(len(rows)))
    for i, one in enumerate(rows):
        for j, other in enumerate(rows):
            if one[0] == other[0] or one[1] == other[1]:
                old, new = label[j], label[i]
                label = [new if mark == old else mark for mark in label]
    assert all((joined[i] == joined[j]) == (label[i] == label[j]) for i in range(len(rows)) for j in range(len(rows)))


def test_wrong_questions_are_refused() -> None:
    samples = FoldSamples(
        sources=["few"] * 4,
        keys=list("abcd"),
        targets=np.zeros((4, 6), np.float32),
        mask=np.ones((4, 6), np.bool_),
    )
    with pytest.raises(ConfigError, match="1 folds"):
        assign_folds(samples, np.arange(4), num_folds=1)
    with pytest.raises(DataError, match="'few' has 4 groups"):
        assign_folds(samples, np.arange(4), num_folds=5)
    folds = assign_folds(samples, np.arange(4), num_folds=4)
    training, validation = validation_fold(np.append(folds, np.int8(HELD_OUT)), fold=2)
    assert validation.sum() == 1 and training.sum() == 3 and not (training | validation)[-1]
    with pytest.raises(ConfigError, match="no fold 4"):
        validation_fold(folds, fold=4)


def test_a_leak_is_named() -> None:
    joined = np.array([0, 0, 1, 2, 2])
    names = ["anna", "anna", "ben", "cleo", "cleo's twin"]
    check_leaks(["train", "train", "val", "val", ""], joined=joined, names=names)
    with pytest.raises(DataError, match=r"2 groups.*'anna' \(train\) belongs with 'anna' \(val\).*cleo's twin"):
        check_leaks(["train", "val", "val", "train", "test"], joined=joined, names=names)


@pytest.fixture
def shards(layouts: Any, tmp_path: Path) -> Path:
    """Two classes with 12 faces each, of which some are copies of one another, and four test pictures."""
    rng = np.random.default_rng(5)
    root = tmp_path / "raw"
    for name in ("happiness", "fear"):
        for number in range(12):
            noise = rng.integers(0, 256, (8, 8), np.uint8)  # unlike one another at the hash's frequencies
            picture = np.asarray(Image.fromarray(noise).resize((64, 64), Image.Resampling.BICUBIC))
            layouts.picture(root / "train" / name / f"{number:02d}.png", picture)
    train = root / "train"
    copy = np.asarray(Image.open(train / "happiness" / "03.png"))
    layouts.picture(train / "fear" / "exact.png", copy)
    layouts.picture(train / "fear" / "near.png", np.clip(copy.astype(int) * 8 // 10 + 9, 0, 255).astype(np.uint8))
    layouts.picture(train / "fear" / "mirrored.png", np.ascontiguousarray(copy[:, ::-1]))
    tested = np.asarray(Image.open(train / "fear" / "05.png"))
    layouts.picture(root / "test" / "fear" / "same.png", tested)
    for number in range(3):
        layouts.picture(root / "test" / "happiness" / f"{number}.png")
    out = tmp_path / "shards"
    prepare(
        [FolderPerClassSource(root)], out=out, settings=PrepareSettings(crops=True), workers=Workers(num=1), quiet=True
    )
    return out


def test_folds_of_shards_keep_copies_together_and_hold_out_what_is_tested(shards: Path, tmp_path: Path) -> None:
    manifest = read_manifest(shards)
    folds = make_folds(manifest, num_folds=3)
    of = dict(zip(manifest.strings("key"), folds.fold.tolist(), strict=True))
    family = [of[f"train/{name}.png"] for name in ("happiness/03", "fear/exact", "fear/near", "fear/mirrored")]
    assert len(set(family)) == 1 and family[0] != HELD_OUT
    assert {of[f"test/happiness/{n}.png"] for n in range(3)} == {of["train/fear/05.png"]} == {HELD_OUT}
    assert folds.report is not None
    assert (folds.report.num_held_out, folds.report.num_held_out_by_join) == (4, 1)
    assert folds.report.largest == 4 and folds.report.num_groups == len(manifest) == 31
    table = {row.fold: row for row in folds.report.rows}
    assert set(table) == {-1, 0, 1, 2} and sum(row.num_samples for row in table.values()) == 31
    happy = [table[fold].emotions["happiness"] for fold in range(3)]
    assert max(happy) - min(happy) <= 1 and sum(happy) == 12
    write_folds(tmp_path / "folds.parquet", folds, manifest=manifest)
    again = read_folds(tmp_path / "folds.parquet", manifest=manifest)
    assert np.array_equal(again.fold, folds.fold) and np.array_equal(again.joined, folds.joined)
    part = manifest.select(np.arange(len(manifest)) % 2 == 0)
    assert np.array_equal(read_folds(tmp_path / "folds.parquet", manifest=part).fold, folds.fold[::2])
    assert np.array_equal(make_folds(manifest, num_folds=3).fold, folds.fold)
    everything = make_folds(manifest, num_folds=3, hold_out=())
    assert HELD_OUT not in everything.fold


def test_a_table_of_folds_that_does_not_fit_is_refused(shards: Path, tmp_path: Path) -> None:
    manifest = read_manifest(shards)
    path = tmp_path / "folds.parquet"
    with pytest.raises(DataError, match="femae data folds"):
        read_folds(path, manifest=manifest)
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="is not a table of folds"):
        read_folds(path, manifest=manifest)
    part = manifest.select(np.arange(len(manifest)) > 3)
    write_folds(path, make_folds(part, num_folds=3, look=False), manifest=part)
    with pytest.raises(DataError, match="no fold to 4 samples"):
        read_folds(path, manifest=manifest)


def test_likenesses_that_chain_everything_are_refused(shards: Path) -> None:
    with pytest.raises(DataError, match="smaller max_distance"):
        make_folds(read_manifest(shards), num_folds=3, look=False, max_distance=28)

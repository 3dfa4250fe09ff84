"""Bootstrap over groups: equal to drawing groups one by one, reproducible, and wider with fewer groups."""

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from femae.metrics import bootstrap
from femae.metrics.bootstrap import GroupDraws, bootstrap_f1, bootstrap_sums, group_sums, interval
from femae.metrics.calibration import bootstrap_ece, reliability
from femae.metrics.f1 import f1_per_class
from femae.metrics.ranking import bootstrap_ranking


def example(num_groups: int = 12, size: int = 90) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    true = rng.integers(0, 4, size)
    pred = np.where(rng.random(size) < 0.6, true, rng.integers(-1, 4, size))
    return pred, true, rng.integers(0, num_groups, size) * 7


def test_each_draw_is_f1_of_the_samples_of_the_groups_drawn() -> None:
    pred, true, groups = example()
    draws, accuracy = bootstrap_f1(pred, true=true, num_classes=4, groups=groups, num=25, seed=3)
    codes = np.unique(groups)
    chosen = np.random.default_rng(3).integers(0, len(codes), (25, len(codes)))
    for row, picked in enumerate(chosen):
        rows = np.concatenate([np.flatnonzero(groups == codes[one]) for one in picked])
        np.testing.assert_allclose(draws[row], f1_per_class(pred[rows], true=true[rows], num_classes=4))
        assert accuracy[row] == pytest.approx((pred[rows] == true[rows]).mean())


def test_draws_depend_on_the_seed_alone_and_not_on_how_many_are_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pred, true, groups = example()
    settings = {"true": true, "num_classes": 4, "groups": groups, "num": 40}
    first = bootstrap_f1(pred, **settings, seed=1)[0]
    assert not np.array_equal(first, bootstrap_f1(pred, **settings, seed=2)[0])
    monkeypatch.setattr(bootstrap, "_MAX_CHUNK", 30)
    np.testing.assert_array_equal(first, bootstrap_f1(pred, **settings, seed=1)[0])


def test_samples_of_one_person_make_the_interval_wider() -> None:
    rng = np.random.default_rng(0)
    right = np.repeat(rng.random(20) < 0.6, 50)  # twenty persons, each always right or always wrong
    true = np.zeros(1000, np.int64)
    pred = np.where(right, 0, -1)
    widths = []
    for groups in (np.arange(1000), np.repeat(np.arange(20), 50)):
        low, high = interval(bootstrap_f1(pred, true=true, num_classes=1, groups=groups, num=500)[1])
        assert low < right.mean() < high
        widths.append(high - low)
    assert widths[1] > 5 * widths[0]


def test_interval_of_a_mean_agrees_with_its_standard_error() -> None:
    values = np.random.default_rng(4).normal(0, 1, (4000, 1))
    draws = bootstrap_sums(group_sums(values, groups=np.arange(4000)), num=2000, seed=0)[:, 0] / 4000
    low, high = interval(draws)
    assert high - low == pytest.approx(2 * 1.96 / np.sqrt(4000), rel=0.08)
    assert np.isnan(interval(np.zeros(0))).all()
    assert interval(np.array([np.nan, 1.0, 1.0])) == (1.0, 1.0)


def labelled(size: int = 120) -> dict[str, np.ndarray]:
    """Probabilities with ties, soft targets, unknown labels, and a label that few groups show."""
    rng = np.random.default_rng(8)
    targets = np.clip(rng.random((size, 3)) + np.array([0, 0, -0.47]), 0, 1)
    probs = np.round(np.clip(targets + rng.normal(0, 0.4, targets.shape), 0, 1), 1)
    mask = rng.random(targets.shape) < 0.8
    return {"probs": probs, "targets": targets, "mask": mask, "groups": rng.integers(0, 15, size) * 3}


def test_ranking_and_calibration_of_a_draw_are_those_of_the_samples_of_the_groups_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bootstrap, "_MAX_CHUNK", 700)
    example = labelled()
    groups = example["groups"]
    draws = GroupDraws(groups=groups, num=40, seed=3)
    sample: Any = {name: example[name] for name in ("probs", "targets", "mask")}
    precision, area = bootstrap_ranking(**sample, draws=draws)
    error = bootstrap_ece(**sample, draws=draws, num_bins=7)
    codes = np.unique(groups)
    undefined = 0
    for draw, picked in enumerate(np.random.default_rng(3).integers(0, len(codes), (40, len(codes)))):
        rows = np.concatenate([np.flatnonzero(groups == codes[one]) for one in picked])
        probs, targets, mask = (example[name][rows] for name in ("probs", "targets", "mask"))
        np.testing.assert_allclose(error[draw], reliability(probs, targets=targets, mask=mask, num_bins=7).ece)
        for column, known in enumerate(mask.T):
            present = targets[known, column] >= 0.5
            if present.any():
                expected = average_precision_score(present, probs[known, column])
                assert precision[draw, column] == pytest.approx(expected)
                assert area[draw, column] == pytest.approx(roc_auc_score(present, probs[known, column]))
            else:
                undefined += 1
                assert np.isnan(precision[draw, column]) and np.isnan(area[draw, column])
    assert undefined  # some draws have no positive sample of the third label

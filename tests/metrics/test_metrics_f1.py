"""F1, confusion, average precision, AUROC and ECE equal scikit-learn's and plain sums."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from femae.metrics.calibration import reliability
from femae.metrics.f1 import au_f1, binary_f1, confusion, f1_per_class, macro_f1
from femae.metrics.ranking import auroc, average_precision

SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, size=st.integers(1, 60), num_classes=st.integers(2, 11))
def test_f1_and_confusion_equal_scikit_learn_also_with_missed_samples(seed: int, size: int, num_classes: int) -> None:
    rng = np.random.default_rng(seed)
    true, pred = rng.integers(0, num_classes, size), rng.integers(-1, num_classes, size)
    labels = np.arange(num_classes)
    expected = sk.f1_score(true, pred, labels=labels, average=None, zero_division=0)
    np.testing.assert_allclose(f1_per_class(pred, true=true, num_classes=num_classes), expected, atol=1e-12)
    assert macro_f1(pred, true=true, num_classes=num_classes) == pytest.approx(expected.mean())
    counts = confusion(pred, true=true, num_classes=num_classes)
    assert counts.sum() == size and counts[:, -1].sum() == (pred == -1).sum()
    np.testing.assert_array_equal(counts[:, :-1], sk.confusion_matrix(true, pred, labels=[*labels, -1])[:-1, :-1])


def test_present_classes_only() -> None:
    true, pred = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 1, 0])
    each = f1_per_class(pred, true=true, num_classes=4)
    assert macro_f1(pred, true=true, num_classes=4) == pytest.approx(each.sum() / 4)  # eq. (3): absent counts as 0
    assert macro_f1(pred, true=true, num_classes=4, min_present=3) == pytest.approx(each[0])
    assert macro_f1(pred, true=true, num_classes=4, min_present=1) == pytest.approx(each[:3].mean())
    assert np.isnan(macro_f1(pred, true=true, num_classes=4, min_present=7))


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, size=st.integers(2, 80))
def test_multi_label_figures_equal_scikit_learn_on_what_is_known(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    probs = np.round(rng.random((size, 4)), 1)  # with ties
    targets, mask = (rng.random((size, 4)) < 0.4).astype(np.float32), rng.random((size, 4)) < 0.7
    thresholds = np.array([0.2, 0.5, 0.5, 0.8])
    f1 = binary_f1(probs, targets=targets, mask=mask, thresholds=thresholds)
    ap, auc = average_precision(probs, targets=targets, mask=mask), auroc(probs, targets=targets, mask=mask)
    for column in range(4):
        chosen = mask[:, column]
        true, score = targets[chosen, column] == 1, probs[chosen, column]
        given_label = score >= thresholds[column]
        assert f1[column] == pytest.approx(sk.f1_score(true, given_label, zero_division=0) if len(true) else 0)
        if not true.any():
            assert np.isnan(ap[column]) and np.isnan(auc[column])
            continue
        assert ap[column] == pytest.approx(sk.average_precision_score(true, score))
        if true.all():
            assert np.isnan(auc[column])
        else:
            wins = [(a > b) + (a == b) / 2 for a in score[true] for b in score[~true]]
            assert auc[column] == pytest.approx(np.mean(wins))


def test_an_unknown_label_never_counts_as_absent() -> None:
    probs, targets = np.array([[0.9], [0.9], [0.1]]), np.array([[1.0], [0.0], [1.0]])
    mask = np.array([[True], [False], [True]])
    assert binary_f1(probs, targets=targets, mask=mask)[0] == pytest.approx(2 / 3)  # without a false positive
    assert binary_f1(probs, targets=targets)[0] == pytest.approx(0.5)
    assert average_precision(probs, targets=targets, mask=mask)[0] == 1


def test_au_f1_is_the_mean_of_binary_f1_over_units_that_are_shown() -> None:
    rng = np.random.default_rng(3)
    probs, targets = rng.random((50, 4)), (rng.random((50, 4)) < 0.5).astype(float)
    mask = np.ones((50, 4), bool)
    mask[:, 2] = False
    targets[:, 3] = 0
    expected = np.mean([sk.f1_score(targets[:, k], probs[:, k] >= 0.5) for k in (0, 1)])
    assert au_f1(probs, targets=targets, mask=mask) == pytest.approx(expected)
    assert np.isnan(au_f1(probs, targets=targets, mask=np.zeros((50, 4), bool)))


def test_ece_equals_its_definition_bin_by_bin() -> None:
    rng = np.random.default_rng(1)
    probs, targets, mask = rng.random((400, 2)), rng.random((400, 2)), rng.random((400, 2)) < 0.8
    got = reliability(probs, targets=targets, mask=mask, num_bins=10)
    for column in range(2):
        p, t = probs[mask[:, column], column], targets[mask[:, column], column]
        parts = [(p >= k / 10) & (p < (k + 1) / 10) for k in range(10)]
        expected = sum(abs(p[part].mean() - t[part].mean()) * part.mean() for part in parts)
        assert got.ece[column] == pytest.approx(expected)
        np.testing.assert_array_equal(got.count[column], [part.sum() for part in parts])


def test_ece_of_bins_on_their_edges_and_of_nothing() -> None:
    got = reliability(np.array([[1.0], [0.5], [0.0]]), targets=np.array([[1.0], [0.0], [0.0]]), num_bins=2)
    np.testing.assert_array_equal(got.count[0], [1, 2])  # 0.5 opens the upper bin, 1 closes it
    assert got.ece[0] == pytest.approx(0.25 * 2 / 3)
    assert np.isnan(reliability(np.zeros((0, 1)), targets=np.zeros((0, 1))).ece[0])

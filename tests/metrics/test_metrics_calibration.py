"""Platt scaling recovers known parameters, and best thresholds equal an exhaustive search."""

import numpy as np
import pytest

from femae.metrics.calibration import best_thresholds, fit_platt
from femae.metrics.f1 import binary_f1


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


@pytest.mark.parametrize("soft", [False, True])
def test_known_scale_and_offset_are_recovered(soft: bool) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (60_000, 3))
    scale, offset = np.array([0.5, 1.7, 1.0]), np.array([-1.0, 0.4, 0.0])
    truth = sigmoid(logits * scale + offset)
    targets = truth if soft else (rng.random(truth.shape) < truth).astype(float)
    got_scale, got_offset = fit_platt(logits, targets)
    tolerance = 0.002 if soft else 0.05
    np.testing.assert_allclose(got_scale, scale, atol=tolerance)
    np.testing.assert_allclose(got_offset, offset, atol=tolerance)


def test_unknown_labels_are_left_out_of_the_fit() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (4000, 1))
    targets = (rng.random((4000, 1)) < sigmoid(logits * 0.6 - 0.5)).astype(float)
    mask = np.arange(4000)[:, None] < 3000
    spoiled = np.where(mask, targets, 1 - targets)
    np.testing.assert_allclose(fit_platt(logits, spoiled, mask=mask), fit_platt(logits[:3000], targets[:3000]))


def test_labels_that_cannot_be_fitted_are_left_alone() -> None:
    logits = np.linspace(-3, 3, 20)[:, None].repeat(3, 1)
    targets = np.zeros((20, 3))
    targets[:, 1] = 1
    targets[10:, 2] = 1  # separated perfectly: the scale stays finite
    mask = np.ones((20, 3), bool)
    scale, offset = fit_platt(logits, targets, mask=mask)
    assert scale[:2].tolist() == [1, 1] and offset[:2].tolist() == [0, 0]
    assert np.isfinite(scale[2]) and 1 < scale[2] < 20


def test_extreme_logits_give_finite_numbers() -> None:
    logits = np.array([[-800.0], [900.0], [-700.0], [650.0], [5.0]])
    assert np.isfinite(fit_platt(logits, np.array([[0.0], [1], [1], [0], [1]]))).all()


def test_best_thresholds_give_the_largest_f1_of_all_thresholds() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        probs = np.round(rng.random((40, 3)), 2)
        targets, mask = rng.random((40, 3)), rng.random((40, 3)) < 0.8
        got = best_thresholds(probs, targets, mask=mask)
        reached = binary_f1(probs, targets=targets, mask=mask, thresholds=got)
        every = [binary_f1(probs, targets=targets, mask=mask, thresholds=t) for t in np.linspace(0, 1, 401)]
        np.testing.assert_allclose(reached, np.max(every, axis=0))


def test_a_best_threshold_is_midway_between_probabilities_and_ties_are_predicted_together() -> None:
    targets = np.array([[0.0], [1], [0], [1]])
    assert best_thresholds(np.array([[0.2], [0.8]]), targets[:2]).tolist() == [0.5]
    assert best_thresholds(np.full((4, 1), 0.7), targets) < 0.7


def test_no_positive_sample_gives_the_threshold_one_half() -> None:
    assert best_thresholds(np.array([[0.2], [0.9]]), np.zeros((2, 1))).tolist() == [0.5]

"""Losses against an independent computation in float64 numpy."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs femae[train]")

from femae.data.targets import class_weights
from femae.training.tasks.losses import cross_entropy_six, distill_kl, distill_mse, weighted_bce


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def batch(seed: int = 0, count: int = 7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(scale=2, size=(count, 6)), rng.random((count, 6)), rng.random((count, 6)) < 0.7


def test_eq_1_to_the_letter_with_all_labels_known() -> None:
    logits, targets, _ = batch()
    weights = class_weights(targets.astype(np.float32), np.ones_like(targets, bool), mode="n_max").astype(np.float64)
    y_hat = sigmoid(logits)
    expected = 0.0
    for y, p in zip(targets, y_hat, strict=True):
        expected -= sum(weights[j] * (y[j] * np.log(p[j]) + (1 - y[j]) * np.log(1 - p[j])) for j in range(6)) / 6
    known = torch.ones(7, 6, dtype=torch.bool)
    loss = weighted_bce(
        torch.from_numpy(logits), torch.from_numpy(targets).float(), known, weights=torch.from_numpy(weights).float()
    )
    assert float(loss) == pytest.approx(expected / 7, rel=1e-5)


def test_unknown_labels_do_not_count_whatever_their_target_says() -> None:
    logits, targets, mask = batch()
    mask[2] = False
    weights = np.arange(1.0, 7.0)
    terms = -(targets * np.log(sigmoid(logits)) + (1 - targets) * np.log(1 - sigmoid(logits))) * weights
    expected = np.mean([terms[i][mask[i]].mean() if mask[i].any() else 0.0 for i in range(7)])
    arguments = torch.from_numpy(logits), torch.from_numpy(mask)
    for noise in (0.0, 0.4):
        other = np.where(mask, targets, np.clip(targets + noise, 0, 1))
        loss = weighted_bce(
            arguments[0], torch.from_numpy(other).float(), arguments[1], weights=torch.from_numpy(weights).float()
        )
        assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_pos_weights_act_on_the_positive_term_alone() -> None:
    logits, targets, mask = batch()
    mask[:] = True
    pos = np.arange(1.0, 7.0)
    terms = -(pos * targets * np.log(sigmoid(logits)) + (1 - targets) * np.log(1 - sigmoid(logits)))
    loss = weighted_bce(
        torch.from_numpy(logits),
        torch.from_numpy(targets).float(),
        torch.from_numpy(mask),
        weights=torch.ones(6),
        pos_weights=torch.from_numpy(pos).float(),
    )
    assert float(loss) == pytest.approx(terms.mean(), rel=1e-5)


def test_cross_entropy_gives_what_is_left_of_1_to_none() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(3, 7))
    targets = np.array([[0.5, 0, 0, 0.2, 0, 0], [1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0.0]])
    shares = np.array([[0.5, 0, 0, 0.2, 0, 0, 0.3], [0.5, 0.5, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1.0]])
    log_softmax = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    known = np.ones((3, 6), bool)
    known[0, 2] = False  # not all known: does not count
    expected = -(shares[1:] * log_softmax[1:]).sum() / 3
    loss = cross_entropy_six(torch.from_numpy(logits), torch.from_numpy(targets).float(), torch.from_numpy(known))
    assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_kl_of_binary_distributions_at_a_temperature(temperature: float) -> None:
    student, teacher, _ = batch(4)
    teacher = teacher * 4 - 2
    q, p = sigmoid(student / temperature), sigmoid(teacher / temperature)
    expected = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean() * temperature**2
    loss = distill_kl(torch.from_numpy(student), torch.from_numpy(teacher), temperature=temperature)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(distill_kl(torch.from_numpy(teacher), torch.from_numpy(teacher), temperature=2)) == pytest.approx(0)


def test_mse_of_outputs() -> None:
    student, teacher, _ = batch(5)
    loss = distill_mse(torch.from_numpy(student), torch.from_numpy(teacher))
    assert float(loss) == pytest.approx(((student - teacher) ** 2).mean(), rel=1e-5)

"""Mixup of soft multi-label targets with unknown labels, and pairs that form a compound."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs femae[train]")

from femae.config.train import MixupConfig
from femae.labels import ABAW_COMPOUNDS, EMOTIONS
from femae.training.loader.rng import DrawPurpose, RandomKeys
from femae.training.tasks.mixup import compound_pairs, draw_mix

SIZE = 64


def labels(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = np.eye(6, dtype=np.float32)[rng.integers(0, 6, SIZE)] * rng.uniform(0.5, 1, (SIZE, 1)).astype(np.float32)
    return targets, rng.random((SIZE, 6)) < 0.9


def draw(config: MixupConfig, seed: int = 1, progress: float = 0.0, **part: int):
    targets, mask = labels()
    first, count = part.get("first", 0), part.get("count", SIZE)
    rows = slice(first, first + count)
    draws = RandomKeys(seed, first=first, count=count)
    return draw_mix(
        torch.from_numpy(targets[rows]), torch.from_numpy(mask[rows]), config, draws=draws, progress=progress
    )


def test_pictures_targets_and_masks_against_numpy() -> None:
    targets, mask = labels()
    pixels = np.random.default_rng(2).random((SIZE, 1, 4, 4))
    mix = draw(MixupConfig(alpha=1.0))
    partner, lam = mix.partner.numpy(), mix.lam.numpy().astype(np.float64)
    assert (lam >= 0).all() and (lam <= 1).all() and lam.std() > 0.2
    expected = lam[:, None, None, None] * pixels + (1 - lam[:, None, None, None]) * pixels[partner]
    assert mix.pixels(torch.from_numpy(pixels)).numpy() == pytest.approx(expected, rel=1e-5)
    expected = lam[:, None] * targets + (1 - lam[:, None]) * targets[partner]
    assert mix.targets(torch.from_numpy(targets).double()).numpy() == pytest.approx(expected, rel=1e-5)
    assert mix.mask(torch.from_numpy(mask)).numpy().tolist() == (mask & mask[partner]).tolist()


def test_lam_follows_the_beta_distribution() -> None:
    for alpha in (0.2, 1.0, 4.0):
        lam = RandomKeys.beta(RandomKeys(3, count=20_000).uniform(DrawPurpose.MIXUP), alpha).numpy()
        assert lam.mean() == pytest.approx(0.5, abs=0.01)
        assert lam.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.04)


def test_the_seven_pairs_are_those_of_the_challenge() -> None:
    table = compound_pairs()
    assert int(table.sum()) == 14 and torch.equal(table, table.T)
    for compound in ABAW_COMPOUNDS:
        assert table[EMOTIONS.index(compound.pair[0]), EMOTIONS.index(compound.pair[1])]


def test_restricted_pairs_make_compounds_or_are_left_alone() -> None:
    targets, mask = labels()
    top = np.where(mask, targets, 0).argmax(1)
    shown = np.where(mask, targets, 0).max(1) > 0
    mix = draw(MixupConfig(alpha=1.0, compound_share=(1.0,)))
    table = compound_pairs().numpy()
    mixed = mix.lam.numpy() < 1
    assert mixed.sum() > SIZE / 2
    for i in np.flatnonzero(mixed):
        j = int(mix.partner[i])
        assert shown[i] and shown[j] and table[top[i], top[j]]
    alone = torch.from_numpy(targets)
    assert torch.equal(mix.targets(alone)[~mixed], alone[~mixed])
    assert len(set(mix.partner.numpy()[mixed].tolist())) > 8  # not one partner for all


def test_the_share_of_compounds_follows_the_schedule() -> None:
    config = MixupConfig(alpha=1.0, compound_share=(0.0, 0.5, 1.0))
    plain = np.arange(SIZE) ^ 1
    share = [float((draw(config, progress=p).partner.numpy() != plain).mean()) for p in (0.1, 0.5, 0.99)]
    assert share[0] == 0 and 0.2 < share[1] < 0.8 and share[2] > 0.8


def test_half_pictures() -> None:
    mix = draw(MixupConfig(alpha=1.0, cutmix=1.0))
    pixels = torch.randn(SIZE, 1, 6, 6)
    mixed = mix.pixels(pixels)
    assert torch.equal(mixed[..., :3], pixels[..., :3])
    assert torch.equal(mixed[..., 3:], pixels[mix.partner][..., 3:])
    assert mix.lam.unique().tolist() == [0.5]


def test_a_part_of_a_batch_is_mixed_as_the_whole_is() -> None:
    whole, part = draw(MixupConfig(alpha=1.0)), draw(MixupConfig(alpha=1.0), first=32, count=32)
    assert torch.equal(whole.lam[32:], part.lam)
    assert torch.equal(whole.partner[32:] - 32, part.partner)


def test_off_without_alpha() -> None:
    assert draw(MixupConfig()) is None

"""Augmentation: bounds, identity, torchvision's colours, and equal random numbers for parts of a batch."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs femae[train]")

from torchvision.transforms.v2 import functional as tv

from femae.config.train import AugmentConfig
from femae.training.loader.rng import DrawPurpose, RandomKeys, mix_seed, normals
from femae.training.tasks.augment import _augment, augment_batch, draw_uniforms, make_augment

OFF = dict.fromkeys(
    ("flip", "rotation_deg", "shift", "stretch", "soften", "gamma", "contrast", "brightness", "saturation", "erase"),
    0.0,
) | {"scale_min": 1.0, "scale_max": 1.0, "noise": 0.0}


KEYS = [-1830642326893942270, -7693578145408079413]
NUMBERS = [0.0585497, 0.65140408, 0.07597989]


def pictures(channels: int = 1, count: int = 12) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(count, channels, 6, 6, generator=generator)
    return (torch.nn.functional.interpolate(small, size=48, mode="bilinear") * 255).to(torch.uint8)


def test_all_off_is_the_identity() -> None:
    for channels in (1, 3):
        images = pictures(channels)
        same = augment_batch(images, AugmentConfig(**OFF), draws=RandomKeys(0, count=12), size=48)
        assert torch.allclose(same, images / 255, atol=1e-5)


def test_all_on_keeps_shape_and_range_and_differs_from_picture_to_picture() -> None:
    images = pictures(3)[:1].expand(12, -1, -1, -1).contiguous()
    moved = augment_batch(images, AugmentConfig(hue=0.1), draws=RandomKeys(0, count=12), size=32)
    assert moved.shape == (12, 3, 32, 32)
    assert float(moved.min()) >= 0 and float(moved.max()) <= 1
    assert len({tuple(picture.flatten()[:50].tolist()) for picture in moved}) == 12


def test_flip_rotation_and_zoom_are_torchvisions() -> None:
    images = pictures()
    flipped = augment_batch(images, AugmentConfig(**OFF | {"flip": 1.0}), draws=RandomKeys(0, count=12), size=48)
    assert torch.allclose(flipped, tv.horizontal_flip(images) / 255, atol=1e-5)
    zoomed = augment_batch(
        images, AugmentConfig(**OFF | {"scale_min": 0.5, "scale_max": 0.5}), draws=RandomKeys(0, count=12), size=48
    )
    expected = tv.resize(tv.center_crop(images / 255, [24, 24]), [48, 48], antialias=False)
    assert torch.allclose(zoomed[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=0.01)
    turned = augment_batch(
        images, AugmentConfig(**OFF | {"rotation_deg": 30.0}), draws=RandomKeys(4, count=12), size=48
    )
    angles = 30 * (2 * draw_uniforms(RandomKeys(4, count=12).keys)["angle"].flatten() - 1)
    for picture, image, angle in zip(turned, images, angles.tolist(), strict=True):
        expected = tv.rotate(image[None] / 255, angle, interpolation=tv.InterpolationMode.BILINEAR)[0]
        assert (picture - expected)[:, 14:34, 14:34].abs().max() < 0.05


def test_saturation_is_torchvisions() -> None:
    images = pictures(3)
    found = augment_batch(images, AugmentConfig(**OFF | {"saturation": 0.5}), draws=RandomKeys(6, count=12), size=48)
    # the random factor is estimated from the pictures
    for picture, image in zip(found, images / 255, strict=True):
        gray = tv.rgb_to_grayscale(image)
        inside = (picture > 0.01) & (picture < 0.99)
        factor = float(((picture - gray) / (image - gray + 1e-9))[inside & ((image - gray).abs() > 0.1)].median())
        assert 0.5 <= factor <= 1.5
        assert torch.allclose(picture, tv.adjust_saturation(image, factor), atol=5e-3)


def test_erase_covers_and_soften_blurs_about_their_share() -> None:
    images = pictures(count=400)
    erased = augment_batch(images, AugmentConfig(**OFF | {"erase": 0.5}), draws=RandomKeys(1, count=400), size=48)
    changed = ((erased - images / 255).abs().amax((1, 2, 3)) > 0.01).float().mean()
    assert 0.4 < float(changed) < 0.6
    sharp = torch.randint(0, 256, (400, 1, 48, 48), dtype=torch.uint8)
    softened = augment_batch(sharp, AugmentConfig(**OFF | {"soften": 0.3}), draws=RandomKeys(1, count=400), size=48)
    assert 0.2 < float((softened.std((1, 2, 3)) < 0.2).float().mean()) < 0.4


def test_sharpen_steepens_edges_of_about_its_share() -> None:
    ramp = (torch.arange(48).float().sub(24).div(6).sigmoid() * 150 + 50).to(torch.uint8).expand(400, 1, 48, 48)
    sharp = augment_batch(ramp, AugmentConfig(**OFF | {"sharpen": 0.5}), draws=RandomKeys(1, count=400), size=48)
    steepness = (sharp[..., 1:] - sharp[..., :-1]).amax((1, 2, 3))
    plain = float((ramp[0, 0, 0, 1:].float() - ramp[0, 0, 0, :-1].float()).max() / 255)
    assert 0.4 < float((steepness > plain + 1e-4).float().mean()) < 0.6
    assert float(steepness.min()) > plain - 1e-4
    assert float((sharp.mean((1, 2, 3)) - ramp.float().mean() / 255).abs().max()) < 0.01


def test_hue_is_torchvisions() -> None:
    images = pictures(3)
    found = augment_batch(images, AugmentConfig(**OFF | {"hue": 0.3}), draws=RandomKeys(6, count=12), size=48)
    turns = 0.3 * (2 * draw_uniforms(RandomKeys(6, count=12).keys)["hue"].flatten() - 1)
    for picture, image, turn in zip(found, images / 255, turns.tolist(), strict=True):
        assert torch.allclose(picture, tv.adjust_hue(image, turn), atol=1e-4)


def test_a_part_of_a_batch_is_changed_as_in_the_whole() -> None:
    images, config = pictures(), AugmentConfig(sharpen=0.3)
    whole = augment_batch(images, config, draws=RandomKeys(9, count=12), size=48)
    part = augment_batch(images[4:9], config, draws=RandomKeys(9, first=4, count=5), size=48)
    assert torch.equal(whole[4:9], part)


def test_one_graph_without_breaks_gives_the_same_pictures() -> None:
    import torch._dynamo as dynamo

    images, config = pictures(3), AugmentConfig(hue=0.1, sharpen=0.3)
    eager = augment_batch(images, config, draws=RandomKeys(2, count=12), size=32)
    change = make_augment(config, size=32, compiled=False)
    report = dynamo.explain(_augment)(images, RandomKeys(2, count=12).keys, config, 32)
    assert report.graph_count == 1 and report.graph_break_count == 0
    assert torch.equal(change(images, RandomKeys(2, count=12)), eager)


def test_seeds_are_told_apart() -> None:
    seeds = {mix_seed(seed, name, step) for seed in range(5) for name in ("a", "b") for step in range(50)}
    assert len(seeds) == 500 and all(0 <= seed < 2**63 for seed in seeds)


def test_numbers_are_as_random_as_a_generators() -> None:
    """Mean, variance and byte frequencies, and no correlation between pictures, neighbours, purposes or steps."""
    numbers = RandomKeys(1, count=64).uniform(DrawPurpose.AUGMENT, 4096)
    assert float(numbers.min()) > 0 and float(numbers.max()) < 1
    assert float(numbers.mean()) == pytest.approx(0.5, abs=0.002)
    assert float(numbers.var()) == pytest.approx(1 / 12, rel=0.01)
    for shift in (8, 16):  # the first and second byte: 256 equally likely values
        counts = np.bincount(((numbers * 2**shift).long() % 256).flatten().numpy(), minlength=256)
        chi2 = float((((counts - 1024) ** 2) / 1024).sum())
        assert 160 < chi2 < 360  # of 255 degrees of freedom: within 4.5 deviations
    rows = [
        numbers,
        RandomKeys(1, count=64).uniform(DrawPurpose.MASK, 4096),
        RandomKeys(2, count=64).uniform(DrawPurpose.AUGMENT, 4096),
    ]
    ties = torch.corrcoef(torch.cat(rows)) - torch.eye(192)
    assert float(ties.abs().max()) < 5.2 / 4096**0.5
    neighbours = torch.corrcoef(torch.stack([numbers[:, 1:].flatten(), numbers[:, :-1].flatten()]))[0, 1]
    assert abs(float(neighbours)) < 5 / numbers.numel() ** 0.5
    normal = normals(RandomKeys(3, count=64).keys, DrawPurpose.NOISE, 3, 37, 41)
    assert normal.shape == (64, 3, 37, 41)
    assert float(normal.mean()) == pytest.approx(0, abs=0.01) and float(normal.std()) == pytest.approx(1, abs=0.01)
    assert float((normal**4).mean()) == pytest.approx(3, rel=0.03)


def test_numbers_are_the_same_for_ever() -> None:
    """Golden values of the counter-based generator: other machines and later versions must reproduce them."""
    assert RandomKeys(7, first=3, count=2).keys.tolist() == KEYS
    assert RandomKeys(7, first=3, count=1).uniform(DrawPurpose.MASK, 3)[0].tolist() == pytest.approx(NUMBERS, abs=1e-7)

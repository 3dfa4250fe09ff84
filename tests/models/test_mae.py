"""The masked autoencoder: masking, loss and encoding of visible patches, against numpy and timm's forward."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs femae[train]")

from timm.models.vision_transformer import VisionTransformer

from femae.config.model import DecoderConfig, ModelConfig
from femae.models.mae import MaskedAutoencoder, mae_loss, random_masking
from femae.models.vit import build_encoder, cut_patches, encode_visible, sincos_position


def config(**changes: object) -> ModelConfig:
    settings = {"image_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 2, "drop_path": 0.0, "stem": "patch"}
    return ModelConfig(**(settings | changes))


def test_masking_keeps_the_patches_of_least_noise() -> None:
    noise = np.random.default_rng(0).random((5, 16))
    ids_keep, ids_restore, mask = random_masking(torch.from_numpy(noise), mask_ratio=0.75)
    order = np.argsort(noise, 1)
    assert ids_keep.tolist() == order[:, :4].tolist()
    for row in range(5):
        assert sorted(np.flatnonzero(mask[row].numpy() == 0)) == sorted(order[row, :4])
        assert order[row][ids_restore[row].numpy()].tolist() == list(range(16))
    assert float(mask.mean()) == 0.75


def test_masking_is_uniform() -> None:
    noise = torch.rand(20_000, 9, generator=torch.Generator().manual_seed(0))
    mask = random_masking(noise, mask_ratio=0.67)[2]
    assert mask.sum(1).unique().tolist() == [7]
    assert (mask.mean(0) - 7 / 9).abs().max() < 0.012  # 4 standard deviations of a share of 20,000


@pytest.mark.parametrize("norm_pix_loss", [True, False])
def test_loss_is_the_mean_over_masked_patches(norm_pix_loss: bool) -> None:
    rng = np.random.default_rng(1)
    pred, target, mask = rng.normal(size=(3, 9, 16)), rng.normal(size=(3, 9, 16)) * 3 + 1, rng.random((3, 9)) < 0.7
    goal = target
    if norm_pix_loss:
        goal = (target - target.mean(-1, keepdims=True)) / np.sqrt(target.var(-1, ddof=1, keepdims=True) + 1e-6)
    expected = ((pred - goal) ** 2).mean(-1)[mask].mean()
    loss = mae_loss(
        torch.from_numpy(pred), torch.from_numpy(target), torch.from_numpy(mask).double(), norm_pix_loss=norm_pix_loss
    )
    assert float(loss) == pytest.approx(expected, rel=1e-9)


def test_the_encoder_equals_timms_own_forward() -> None:
    for settings in ({}, {"class_token": True}, {"class_token": True, "reg_tokens": 2, "layer_scale": 0.1}):
        shape = config(**settings)
        encoder = build_encoder(shape).eval()
        own = VisionTransformer(
            img_size=32,
            patch_size=8,
            in_chans=1,
            num_classes=0,
            global_pool="avg",
            class_token=shape.class_token,
            reg_tokens=shape.reg_tokens,
            embed_dim=32,
            depth=2,
            num_heads=2,
            mlp_ratio=3.0,
            init_values=shape.layer_scale,
        ).eval()
        own.load_state_dict(encoder.state_dict())
        pixels = torch.randn(4, 1, 32, 32)
        assert torch.equal(encoder(pixels), own(pixels))
        # all patches visible: the tokens of timm's forward_features
        everything = torch.arange(16).expand(4, -1)
        assert torch.allclose(encode_visible(encoder, pixels, everything), own.forward_features(pixels), atol=1e-6)


@pytest.mark.parametrize("stem", ["patch", "conv"])
def test_masked_pixels_change_nothing(stem: str) -> None:
    model = MaskedAutoencoder(
        config(stem=stem, stem_width=8), decoder=DecoderConfig(embed_dim=16, depth=1, num_heads=2)
    )
    model.eval()
    pixels, noise = torch.randn(2, 1, 32, 32), torch.rand(2, 16)
    ids_keep = random_masking(noise, mask_ratio=0.75)[0]
    before = encode_visible(model.encoder, pixels, ids_keep)
    output = model(pixels, noise)
    patches = cut_patches(pixels, 8).clone()
    patches[output.mask > 0] = 100.0
    changed = patches.reshape(2, 4, 4, 1, 8, 8).permute(0, 3, 1, 4, 2, 5).reshape(2, 1, 32, 32)
    assert torch.equal(encode_visible(model.encoder, changed, ids_keep), before)
    assert torch.equal(model(changed, noise).pred, output.pred)


@pytest.mark.parametrize("stem", ["patch", "conv"])
def test_the_encoder_computes_visible_patches_alone(stem: str) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model = MaskedAutoencoder(config(stem=stem, depth=4), decoder=DecoderConfig(embed_dim=8, depth=1, num_heads=2))
    pixels = torch.randn(2, 1, 32, 32)
    flops = []
    for count in (4, 16):
        with FlopCounterMode(display=False) as counter:
            encode_visible(model.encoder, pixels, torch.arange(count).expand(2, -1))
        flops.append(counter.get_total_flops())
    assert flops[0] <= flops[1] / 4  # attention shrinks faster still


def test_patches_go_there_and_back_and_decoder_puts_tokens_in_their_places() -> None:
    model = MaskedAutoencoder(config(in_chans=3), decoder=DecoderConfig(embed_dim=16, depth=1, num_heads=2))
    pixels = torch.randn(2, 3, 32, 32)
    assert torch.equal(model.unpatchify(model.patchify(pixels)), pixels)
    first = model.patchify(pixels)[0, 1].reshape(8, 8, 3)
    assert torch.equal(first, pixels[0, :, :8, 8:16].permute(1, 2, 0))


def test_position_embeddings_are_those_of_mae() -> None:
    found = sincos_position(8, grid=3).numpy()
    omega = 1 / 10000 ** (np.arange(2) / 2)
    for y in range(3):
        for x in range(3):
            expected = np.concatenate([np.sin(x * omega), np.cos(x * omega), np.sin(y * omega), np.cos(y * omega)])
            assert found[3 * y + x] == pytest.approx(expected, abs=1e-6)

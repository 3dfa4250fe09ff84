"""Checkpoints of MAE, MAE-Face, FMAE and timm: state dicts with their names and shapes load into the encoder."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs femae[train]")

from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

from femae.config.model import ModelConfig
from femae.config.train import InitConfig
from femae.errors import ModelError
from femae.models.keymap import load_encoder, map_keys, read_checkpoint, resample_position
from femae.models.vit import build_encoder
from femae.training.tasks.init_weights import init_encoder

DIM, DEPTH = 64, 3


def shape(**changes: Any) -> ModelConfig:
    base = {"image_size": 64, "patch_size": 16, "in_chans": 3, "embed_dim": DIM, "depth": DEPTH, "num_heads": 4}
    return ModelConfig(**base | {"mlp_ratio": 4.0, "stem": "patch", "class_token": True, "drop_path": 0.0} | changes)


def vit_tensors(*, grid: int = 4, norm: str = "norm") -> dict[str, torch.Tensor]:
    """Names and shapes of a ViT as facebookresearch/mae writes them."""
    generator = torch.Generator().manual_seed(0)

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator)

    tensors = {
        "cls_token": draw(1, 1, DIM),
        "pos_embed": draw(1, grid * grid + 1, DIM),
        "patch_embed.proj.weight": draw(DIM, 3, 16, 16),
        "patch_embed.proj.bias": draw(DIM),
        f"{norm}.weight": draw(DIM),
        f"{norm}.bias": draw(DIM),
    }
    for number in range(DEPTH):
        for name, size in (
            ("norm1.weight", (DIM,)),
            ("norm1.bias", (DIM,)),
            ("attn.qkv.weight", (3 * DIM, DIM)),
            ("attn.qkv.bias", (3 * DIM,)),
            ("attn.proj.weight", (DIM, DIM)),
            ("attn.proj.bias", (DIM,)),
            ("norm2.weight", (DIM,)),
            ("norm2.bias", (DIM,)),
            ("mlp.fc1.weight", (4 * DIM, DIM)),
            ("mlp.fc1.bias", (4 * DIM,)),
            ("mlp.fc2.weight", (DIM, 4 * DIM)),
            ("mlp.fc2.bias", (DIM,)),
        ):
            tensors[f"blocks.{number}.{name}"] = draw(*size)
    return tensors


def decoder_tensors() -> dict[str, torch.Tensor]:
    return {
        "mask_token": torch.zeros(1, 1, 32),
        "decoder_pos_embed": torch.zeros(1, 17, 32),
        "decoder_embed.weight": torch.zeros(32, DIM),
        "decoder_blocks.0.norm1.weight": torch.zeros(32),
        "decoder_pred.weight": torch.zeros(768, 32),
    }


def checkpoints() -> dict[str, Any]:
    pretrained = vit_tensors() | decoder_tensors()
    finetuned = vit_tensors(norm="fc_norm") | {"head.weight": torch.zeros(12, DIM), "head.bias": torch.zeros(12)}
    return {
        "mae pretraining": {"model": pretrained, "epoch": 800},
        "mae fine-tuned with global pool": {"model": finetuned},
        "mae-face": {"model": {f"module.{name}": value for name, value in pretrained.items()}},
        "fmae": {"state_dict": {f"encoder.{name}": value for name, value in finetuned.items()}},
        "timm": finetuned,
    }


@pytest.mark.parametrize("kind", list(checkpoints()))
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_every_kind_loads(kind: str, suffix: str, tmp_path: Path) -> None:
    content = checkpoints()[kind]
    path = tmp_path / f"checkpoint{suffix}"
    if suffix == ".pth":
        torch.save(content, path)
    else:
        save_file(content if kind == "timm" else next(iter(content.values())), path)
    encoder = build_encoder(shape())
    report = init_encoder(encoder, InitConfig(weights=path, allow_pickle=True))
    expected = vit_tensors()
    for name, value in encoder.state_dict().items():
        if name in expected:
            assert torch.equal(value, expected[name]), name
    assert report is not None and not report.resampled
    if "pretraining" in kind or kind == "mae-face":
        assert report.fresh == ("fc_norm.bias", "fc_norm.weight")
        assert len(report.left_out) == len(decoder_tensors()) + 2  # and the norm that pooling replaces
    else:
        assert report.fresh == ()


def test_the_names_are_timms_own() -> None:
    model = VisionTransformer(
        img_size=64, patch_size=16, embed_dim=DIM, depth=DEPTH, num_heads=4, num_classes=5, global_pool="avg"
    )
    encoder = build_encoder(shape())
    load_encoder(encoder, model.state_dict(), name="timm")
    pixels = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        features = model.eval().forward_head(model.forward_features(pixels), pre_logits=True)
        assert torch.allclose(encoder.eval()(pixels), features, atol=1e-6)


def test_position_embeddings_go_to_another_grid_and_patch_size() -> None:
    encoder = build_encoder(shape(image_size=96))  # 6 x 6 patches
    report = load_encoder(encoder, vit_tensors(), name="mae")
    assert report.resampled
    flat = torch.full((1, 17, 8), 2.0)
    resampled = resample_position(flat, prefix=1, old_prefix=1, grid=7)
    assert resampled.shape == (1, 50, 8) and torch.allclose(resampled, torch.tensor(2.0), atol=1e-5)
    ramp = torch.arange(16.0).reshape(1, 16, 1)
    up = resample_position(ramp, prefix=0, old_prefix=0, grid=8).reshape(8, 8)
    assert (up.diff(dim=0) > 0).all() and (up.diff(dim=1) > 0).all()
    assert resample_position(ramp, prefix=2, old_prefix=0, grid=4)[0, :2].abs().sum() == 0
    smaller = build_encoder(shape(patch_size=8, image_size=32))
    load_encoder(smaller, vit_tensors(), name="mae")
    gray = build_encoder(shape(in_chans=1))
    load_encoder(gray, vit_tensors(), name="mae")
    assert torch.allclose(gray.patch_embed.proj.weight, vit_tensors()["patch_embed.proj.weight"].sum(1, keepdim=True))


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    torch.save({"model": vit_tensors()}, tmp_path / "c.pth")
    with pytest.raises(ModelError, match=r"pickle.*init.allow_pickle"):
        read_checkpoint(tmp_path / "c.pth")
    with pytest.raises(ModelError, match="differs in shape from the recipe's model"):
        load_encoder(build_encoder(shape(embed_dim=32)), vit_tensors(), name="c.pth")
    with pytest.raises(ModelError, match="lacks blocks"):
        load_encoder(build_encoder(shape(depth=4)), vit_tensors(), name="c.pth")
    (tmp_path / "bad.pth").write_bytes(b"no pickle")
    with pytest.raises(ModelError, match="cannot be read"):
        read_checkpoint(tmp_path / "bad.pth", allow_pickle=True)
    with pytest.raises(ModelError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / "absent.safetensors")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ModelError, match="has no named tensors"):
        read_checkpoint(tmp_path / "list.pth", allow_pickle=True)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ModelError, match="with weights_only"):
        read_checkpoint(tmp_path / "evil.pth", allow_pickle=True)
    assert not (tmp_path / "ran").exists()


def test_keys_lose_their_prefixes_once_and_again() -> None:
    mapped, left_out = map_keys(
        {"module.encoder.blocks.0.norm1.weight": torch.zeros(1), "model.head.bias": torch.zeros(1)}
    )
    assert list(mapped) == ["blocks.0.norm1.weight"] and left_out == ["model.head.bias"]

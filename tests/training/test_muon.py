"""Muon against torch's implementation, and the selection of its parameters."""

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs femae[train]")
pytest.importorskip("lightning_fabric", reason="needs femae[train]")

from torch import nn

from femae.config.model import ModelConfig
from femae.config.train import EmotionConfig, OptimConfig
from femae.errors import ConfigError
from femae.models.face import FaceModel
from femae.training.loop.optim import MOMENTUM, MuonAdamW, make_optimizer, orthogonalise, parameter_groups


def test_steps_are_those_of_torch() -> None:
    torch.manual_seed(0)
    mine = [nn.Parameter(torch.randn(12, 8)), nn.Parameter(torch.randn(8, 20)), nn.Parameter(torch.randn(12, 8))]
    theirs = [nn.Parameter(param.detach().clone()) for param in mine]
    plain, same = nn.Parameter(torch.randn(5)), nn.Parameter(torch.zeros(5))
    same.data.copy_(plain.data)
    groups: list[dict[str, Any]] = [
        {"params": mine, "lr": 0.02, "weight_decay": 0.1, "muon": True},
        {"params": [plain], "lr": 0.01, "weight_decay": 0.0, "muon": False},
    ]
    ours = MuonAdamW(groups, betas=(0.9, 0.98))
    muon = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, momentum=MOMENTUM, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW([same], lr=0.01, weight_decay=0.0, betas=(0.9, 0.98))
    # torch keeps a running mean, MuonAdamW a sum: only the direction matters, which is the same
    for step in range(5):
        for number, (one, two) in enumerate(zip([*mine, plain], [*theirs, same], strict=True)):
            generator = torch.Generator().manual_seed(10 * step + number)
            one.grad = torch.randn(one.shape, generator=generator)
            two.grad = one.grad.clone()
        ours.step()
        muon.step()
        adamw.step()
    for one, two in zip([*mine, plain], [*theirs, same], strict=True):
        assert torch.allclose(one, two, atol=2e-3)
        assert not torch.allclose(one, torch.zeros_like(one), atol=1e-2)


@pytest.mark.parametrize("shape", [(2, 30, 10), (1, 10, 30), (3, 16, 16)])
def test_singular_values_come_near_one(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonalise(matrices).float())
    assert orthogonalise(matrices).shape == shape
    assert values.max() < 1.4
    assert values.median() > 0.6


def test_it_takes_inner_matrices_and_kernels() -> None:
    model = FaceModel(ModelConfig(embed_dim=32, depth=2, num_heads=2, stem_width=8), outputs=("a",))
    groups = parameter_groups(model.named_parameters(), OptimConfig(kind="muon"), depth=2)
    taken = {name for group in groups if group["muon"] for name in group["names"]}
    assert {"encoder.blocks.0.attn.qkv.weight", "encoder.blocks.1.mlp.fc2.weight"} <= taken
    assert "encoder.patch_embed.layers.6.weight" in taken  # a kernel with many inputs
    left = (
        "encoder.patch_embed.layers.0.0.weight",
        "encoder.pos_embed",
        "head.weight",
        "encoder.blocks.0.norm1.weight",
    )
    assert not taken & set(left)
    assert sum(len(group["names"]) for group in groups) == len(list(model.parameters()))
    assert isinstance(make_optimizer(model, OptimConfig(kind="muon"), depth=2), MuonAdamW)
    assert not isinstance(make_optimizer(model, OptimConfig(), depth=2), MuonAdamW)


@pytest.mark.parametrize(
    ("run", "word"), [({"strategy": "fsdp"}, "ddp"), ({"precision": "16-mixed", "accelerator": "cuda"}, "bf16-mixed")]
)
def test_what_it_cannot_do_is_said(run: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        EmotionConfig(optim={"kind": "muon"}, run=run)  # type: ignore[arg-type]

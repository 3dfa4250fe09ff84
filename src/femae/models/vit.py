"""The emotion model: timm's VisionTransformer with a convolutional stem and six logits (paper, section 3.4)."""

from functools import partial
from typing import cast

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from femae.config.model import ModelConfig
from femae.models.stem import ConvStem

__all__ = ["EmotionModel", "build_encoder"]


def build_encoder(config: ModelConfig) -> VisionTransformer:
    """A VisionTransformer without classifier; `forward` gives float[B, embed_dim], the mean over the tokens."""
    return VisionTransformer(
        img_size=config.image_size,
        patch_size=config.patch_size,
        in_chans=config.in_chans,
        num_classes=0,
        global_pool="avg",
        class_token=False,
        embed_dim=config.embed_dim,
        depth=config.depth,
        num_heads=config.num_heads,
        mlp_ratio=config.mlp_ratio,
        drop_path_rate=config.drop_path,
        embed_layer=cast(type[nn.Module], partial(ConvStem, width=config.stem_width)),
    )


class EmotionModel(nn.Module):
    """Encoder and one linear layer. Input float[B, C, S, S], normalised; output logits float[B, num_outputs]."""

    def __init__(self, config: ModelConfig, *, num_outputs: int = 6) -> None:
        super().__init__()
        self.encoder = build_encoder(config)
        self.head = nn.Linear(config.embed_dim, num_outputs)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.head(self.encoder(pixels)))

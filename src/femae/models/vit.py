"""The encoder: timm's VisionTransformer with a linear or a convolutional patch stem (paper, section 3.2).

The convolutional stem turns a face into tokens by small overlapping convolutions instead of one large patch: a ViT
trained from scratch on some ten thousand faces learns slowly; early convolutions provide the locality that it would
otherwise have to learn (Xiao et al. 2021, "Early Convolutions Help Transformers See Better").

`encode_visible` runs the encoder on a subset of patches, for MAE pretraining: each token then depends only on the
pixels of its own patch, also with the convolutional stem, which processes each patch as a separate picture.
"""

from functools import partial
from typing import Any, cast

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from femae.config.model import ModelConfig

__all__ = [
    "ConvStem",
    "DropPath",
    "build_encoder",
    "cut_patches",
    "encode_visible",
    "sincos_position",
]


def _conv_norm(in_channels: int, out_channels: int, *, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


class _Residual(nn.Module):
    """y = gelu(x + conv(gelu(conv(x)))), same shape in and out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _conv_norm(channels, channels, stride=1)
        self.conv2 = _conv_norm(channels, channels, stride=1)
        self.act = nn.GELU()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.act(features + self.conv2(self.act(self.conv1(features))))


class ConvStem(nn.Module):
    """Replacement for timm's PatchEmbed: three convolutions with stride 2, so a patch is 8 x 8 pixels.

    Input float[B, in_chans, H, W], output float[B, (H/8)*(W/8), embed_dim], tokens row by row.
    """

    def __init__(
        self,
        *,
        img_size: int,
        patch_size: int = 8,
        in_chans: int = 1,
        embed_dim: int = 192,
        width: int = 32,
        **_: object,
    ) -> None:
        super().__init__()
        assert patch_size == 8, "three convolutions with stride 2 make a patch of 8 pixels"
        assert img_size % patch_size == 0
        self.img_size = (img_size, img_size)
        self.patch_size = (patch_size, patch_size)
        self.grid_size = (img_size // patch_size, img_size // patch_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        self.layers = nn.Sequential(
            _conv_norm(in_chans, width, stride=2),
            nn.GELU(),
            _Residual(width),
            _conv_norm(width, 2 * width, stride=2),
            nn.GELU(),
            _Residual(2 * width),
            nn.Conv2d(2 * width, embed_dim, kernel_size=3, stride=2, padding=1),
        )

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        features = self.layers(pixels)  # [B, D, H/8, W/8]
        return features.flatten(2).transpose(1, 2)  # [B, N, D]


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): in training some pictures skip a residual branch.

    Pictures whose uniform random number in `uniforms` float[B] is below the rate skip it. The caller sets them, so that
    the result depends neither on a generator's state nor on how a batch is divided among devices; if it is None,
    torch's generator draws.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.uniforms: torch.Tensor | None = None

    def forward(self, branch: torch.Tensor) -> torch.Tensor:
        """float[B, N, D] -> float[B, N, D]: 0 for the pictures that skip it, the others divided by 1 - rate."""
        if not self.training:
            return branch
        uniforms = torch.rand(len(branch), device=branch.device) if self.uniforms is None else self.uniforms
        scale = (uniforms >= self.rate).to(branch.dtype) / (1 - self.rate)
        return branch * scale[:, None, None]

    @staticmethod
    def of(model: nn.Module) -> "list[DropPath]":
        """All DropPath modules of a network, in order."""
        return [module for module in model.modules() if isinstance(module, DropPath)]


def build_encoder(config: ModelConfig) -> VisionTransformer:
    """A VisionTransformer without classifier; `forward` returns float[B, embed_dim], the mean over patch tokens."""
    settings: dict[str, Any] = {}
    if config.stem == "conv":
        settings["embed_layer"] = partial(ConvStem, width=config.stem_width)
    encoder = VisionTransformer(
        img_size=config.image_size,
        patch_size=config.patch_size,
        in_chans=config.in_chans,
        num_classes=0,
        global_pool="avg",
        class_token=config.class_token,
        reg_tokens=config.reg_tokens,
        embed_dim=config.embed_dim,
        depth=config.depth,
        num_heads=config.num_heads,
        mlp_ratio=config.mlp_ratio,
        drop_path_rate=config.drop_path,
        init_values=config.layer_scale,
        **settings,
    )
    grid = config.image_size // config.patch_size
    patches = sincos_position(config.embed_dim, grid=grid)
    for block in encoder.blocks:
        for name in ("drop_path1", "drop_path2"):
            rate = getattr(getattr(block, name), "drop_prob", 0.0)
            if rate:
                setattr(block, name, DropPath(rate))
    positions: Any = encoder.pos_embed
    with torch.no_grad():
        positions[0, -grid * grid :] = patches  # initial values; they are trained
        positions[0, : -grid * grid] = 0
    return encoder


def sincos_position(dim: int, *, grid: int) -> torch.Tensor:
    """Fixed position embeddings float[grid*grid, dim], row by row: a quarter each of sin and cos of x, then of y.

    As in MAE (He et al. 2022); the rest of a dim that is not a multiple of 4 is zero.
    """
    quarter = dim // 4
    omega = 1 / 10_000 ** (torch.arange(quarter, dtype=torch.float64) / max(1, quarter))
    coordinates = torch.arange(grid, dtype=torch.float64)
    y, x = torch.meshgrid(coordinates, coordinates, indexing="ij")
    angles = [axis.reshape(-1, 1) * omega for axis in (x, y)]  # 2 x [N, dim/4]
    parts = [function(angle) for angle in angles for function in (torch.sin, torch.cos)]
    parts.append(torch.zeros(grid * grid, dim - 4 * quarter, dtype=torch.float64))
    return torch.cat(parts, 1).float()


def cut_patches(pixels: torch.Tensor, patch_size: int) -> torch.Tensor:
    """float[B, C, H, W] -> float[B, N, C, p, p], patches row by row."""
    batch, channels, height, width = pixels.shape
    p = patch_size
    tiles = pixels.reshape(batch, channels, height // p, p, width // p, p)
    return tiles.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels, p, p)  # [B, N, C, p, p]


def encode_visible(encoder: VisionTransformer, pixels: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Tokens of chosen patches: pixels float[B, C, S, S], visible i64[B, V] -> float[B, prefix + V, embed_dim].

    Neither the stem nor the blocks process the other patches. The tokens are those after the last block, before any
    normalisation that follows the pooling.
    """
    batch, count = visible.shape
    embed = encoder.patch_embed
    tiles = cut_patches(pixels, embed.patch_size[0])  # [B, N, C, p, p]
    rows = torch.arange(batch, device=pixels.device)[:, None]
    chosen = tiles[rows, visible].flatten(0, 1)  # [B*V, C, p, p]
    layers = embed.layers if isinstance(embed, ConvStem) else embed.proj
    tokens = layers(chosen).reshape(batch, count, -1)  # [B, V, D]
    prefix, positions = encoder.num_prefix_tokens, cast(torch.Tensor, encoder.pos_embed)
    tokens = tokens + positions[0, positions.shape[1] - tiles.shape[1] :][visible]
    prefix_tokens = []
    if encoder.cls_token is not None:
        prefix_tokens.append(encoder.cls_token.expand(batch, -1, -1))
    if encoder.reg_token is not None:
        prefix_tokens.append(encoder.reg_token.expand(batch, -1, -1))
    if prefix_tokens:
        tokens = torch.cat([torch.cat(prefix_tokens, 1) + positions[:, :prefix], tokens], 1)
    return cast(torch.Tensor, encoder.norm(encoder.blocks(encoder.norm_pre(tokens))))

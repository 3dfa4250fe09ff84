"""Convolutional patch stem: faces to tokens through small overlapping convolutions instead of one large patch.

A ViT from scratch learns slowly on some ten thousand faces; early convolutions give it the locality that it would
otherwise have to learn (Xiao et al. 2021, "Early Convolutions Help Transformers See Better").
"""

import torch
from torch import nn

__all__ = ["ConvStem"]


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
    """Drop-in for timm's PatchEmbed: halves the picture three times, so a patch is 8 x 8 pixels.

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
        assert patch_size == 8, "three stride-2 steps make a patch of 8 pixels"
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

"""Augmentation of a whole batch of gray or RGB faces at once, each picture with its own draw (paper, section 4.2).

One grid_sample does crop, scale, shift, rotation and flip together, which keeps two cores ahead of a small network.
"""

import math

import torch
import torch.nn.functional as F

from femae.config.emotion import AugmentConfig

__all__ = ["augment_batch"]


def _uniform(size: int, low: float, high: float) -> torch.Tensor:
    return torch.empty(size).uniform_(low, high)


def _affine(pixels: torch.Tensor, config: AugmentConfig) -> torch.Tensor:
    count, _, height, width = pixels.shape
    angle = _uniform(count, -config.rotation_deg, config.rotation_deg) * (math.pi / 180)
    zoom = torch.exp(_uniform(count, math.log(config.scale_min), math.log(config.scale_max)))
    stretch = torch.exp(_uniform(count, -config.stretch, config.stretch))
    flip = 1 - 2 * (torch.rand(count) < 0.5).float()
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    row_x = torch.stack([flip * cos * stretch, -sin, _uniform(count, -config.shift, config.shift)], 1)
    row_y = torch.stack([flip * sin, cos / stretch, _uniform(count, -config.shift, config.shift)], 1)
    grid = F.affine_grid(torch.stack([row_x, row_y], 1), [count, 1, height, width], align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)


def _soften(pixels: torch.Tensor, probability: float) -> torch.Tensor:
    """Halve or third the resolution of some pictures, as small faces in film have it."""
    size = pixels.shape[-1]
    for factor in (2, 3):
        chosen = torch.rand(len(pixels)) < probability / 2
        if chosen.any():
            small = F.interpolate(pixels[chosen], size=size // factor, mode="area")
            pixels[chosen] = F.interpolate(small, size=size, mode="bilinear", align_corners=False)
    return pixels


def _light(pixels: torch.Tensor, config: AugmentConfig) -> torch.Tensor:
    count = len(pixels)
    gamma = torch.exp(_uniform(count, -config.gamma, config.gamma))[:, None, None, None]
    contrast = torch.exp(_uniform(count, -config.contrast, config.contrast))[:, None, None, None]
    offset = _uniform(count, -config.brightness, config.brightness)[:, None, None, None]
    pixels = pixels.clamp(0.002, 1) ** gamma
    mean = pixels.mean((1, 2, 3), keepdim=True)
    return ((pixels - mean) * contrast + mean + offset).clamp(0, 1)


def _erase(pixels: torch.Tensor, probability: float) -> torch.Tensor:
    """Cover a random rectangle (2 to 15 % of the area) with the picture's own mean."""
    count, _, height, width = pixels.shape
    area = _uniform(count, 0.02, 0.15)
    aspect = torch.exp(_uniform(count, -0.7, 0.7))
    half_h, half_w = (area * aspect).sqrt() / 2, (area / aspect).sqrt() / 2
    y = (torch.arange(height) + 0.5) / height - torch.rand(count, 1)
    x = (torch.arange(width) + 0.5) / width - torch.rand(count, 1)
    box = (y.abs() < half_h[:, None])[:, :, None] & (x.abs() < half_w[:, None])[:, None, :]
    box &= (torch.rand(count) < probability)[:, None, None]
    return torch.where(box[:, None], pixels.mean((1, 2, 3), keepdim=True), pixels)


def augment_batch(pictures: torch.Tensor, config: AugmentConfig) -> torch.Tensor:
    """u8[B, C, S, S] -> float[B, C, S, S] in 0..1, each picture moved, softened, lit and covered at random."""
    pixels = _affine(pictures.float() / 255, config)
    pixels = _soften(pixels, config.soften)
    pixels = _light(pixels, config)
    pixels = _erase(pixels, config.erase)
    return (pixels + torch.randn_like(pixels) * (config.noise * torch.rand(len(pixels), 1, 1, 1))).clamp(0, 1)

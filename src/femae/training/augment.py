"""Augmentation of a whole batch of gray or RGB faces at once, each picture with its own draw (paper, section 4.2).

One grid_sample does what RandomResizedCrop, flip and rotation do, on the device of the pictures and without a copy per
picture, so that two cores stay ahead of a small network. Colours change by the formulas of torchvision's ColorJitter.
"""

import math

import torch
import torch.nn.functional as F
from torchvision.transforms.v2 import functional as tv

from femae.config.train import AugmentConfig
from femae.training.draws import Draws

__all__ = ["augment_batch"]


def _on(pixels: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """float[B] -> float[B, 1, 1, 1] on the pictures' device."""
    return values.to(pixels.device)[:, None, None, None]


def _log_uniform(draws: Draws, low: float, high: float) -> torch.Tensor:
    return torch.exp(draws.uniform(math.log(low), math.log(high)))


def _move(pixels: torch.Tensor, config: AugmentConfig, draws: Draws, size: int) -> torch.Tensor:
    count, channels = pixels.shape[:2]
    angle = draws.uniform(-config.rotation_deg, config.rotation_deg) * (math.pi / 180)
    zoom = _log_uniform(draws, config.scale_min, config.scale_max)
    stretch = torch.exp(draws.uniform(-config.stretch, config.stretch))
    flip = 1 - 2 * draws.chance(config.flip).float()
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    shift_x, shift_y = draws.uniform(-config.shift, config.shift), draws.uniform(-config.shift, config.shift)
    row_x = torch.stack([flip * cos * stretch, -sin, shift_x], 1)
    row_y = torch.stack([flip * sin, cos / stretch, shift_y], 1)
    theta = torch.stack([row_x, row_y], 1).to(pixels.device)  # [B, 2, 3]
    grid = F.affine_grid(theta, [count, channels, size, size], align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)


def _soften(pixels: torch.Tensor, probability: float, draws: Draws) -> torch.Tensor:
    """Halve or third the resolution of some pictures, as small faces in film have it."""
    size, chance = pixels.shape[-1], draws.uniform(0, 1)
    for number, factor in enumerate((2, 3)):
        chosen = (chance >= number * probability / 2) & (chance < (number + 1) * probability / 2)
        if chosen.any():
            where = chosen.to(pixels.device)
            small = F.interpolate(pixels[where], size=max(1, size // factor), mode="area")
            pixels[where] = F.interpolate(small, size=size, mode="bilinear", align_corners=False)
    return pixels


def _sharpen(pixels: torch.Tensor, probability: float, draws: Draws) -> torch.Tensor:
    """Up to twice the difference from the mean of 3 x 3 pixels is added to some pictures (unsharp masking)."""
    strength = draws.uniform(0, 2) * draws.chance(probability)
    mean = F.avg_pool2d(pixels, 3, stride=1, padding=1, count_include_pad=False)
    return (pixels + _on(pixels, strength) * (pixels - mean)).clamp(0, 1)


def _light(pixels: torch.Tensor, config: AugmentConfig, draws: Draws) -> torch.Tensor:
    gamma = _on(pixels, torch.exp(draws.uniform(-config.gamma, config.gamma)))
    contrast = _on(pixels, torch.exp(draws.uniform(-config.contrast, config.contrast)))
    offset = _on(pixels, draws.uniform(-config.brightness, config.brightness))
    if config.gamma:
        pixels = pixels.clamp(0.002, 1) ** gamma
    mean = pixels.mean((1, 2, 3), keepdim=True)
    return ((pixels - mean) * contrast + mean + offset).clamp(0, 1)


def _colour(pixels: torch.Tensor, config: AugmentConfig, draws: Draws) -> torch.Tensor:
    if config.saturation:
        factor = _on(pixels, draws.uniform(max(0.0, 1 - config.saturation), 1 + config.saturation))
        gray = tv.rgb_to_grayscale(pixels)
        pixels = (gray + (pixels - gray) * factor).clamp(0, 1)
    if config.hue:
        turns = draws.uniform(-config.hue, config.hue).tolist()
        pixels = torch.stack([tv.adjust_hue(picture, turn) for picture, turn in zip(pixels, turns, strict=True)])
    return pixels


def _erase(pixels: torch.Tensor, probability: float, draws: Draws) -> torch.Tensor:
    """Cover a random rectangle (2 to 15 % of the area) with the picture's own mean."""
    height, width = pixels.shape[-2:]
    area = draws.uniform(0.02, 0.15)
    aspect = torch.exp(draws.uniform(-0.7, 0.7))
    half_h, half_w = (area * aspect).sqrt() / 2, (area / aspect).sqrt() / 2
    y = (torch.arange(height) + 0.5) / height - draws.uniform(0, 1, 1)
    x = (torch.arange(width) + 0.5) / width - draws.uniform(0, 1, 1)
    box = (y.abs() < half_h[:, None])[:, :, None] & (x.abs() < half_w[:, None])[:, None, :]
    box &= draws.chance(probability)[:, None, None]
    return torch.where(box[:, None].to(pixels.device), pixels.mean((1, 2, 3), keepdim=True), pixels)


def augment_batch(pictures: torch.Tensor, config: AugmentConfig, *, draws: Draws, size: int) -> torch.Tensor:
    """u8[B, C, H, W] -> float[B, C, size, size] in 0..1, each picture moved, softened, lit and covered at random."""
    pixels = _move(pictures.float() / 255, config, draws, size)
    if config.soften:
        pixels = _soften(pixels, config.soften, draws)
    if config.sharpen:
        pixels = _sharpen(pixels, config.sharpen, draws)
    pixels = _light(pixels, config, draws)
    if pixels.shape[1] == 3:
        pixels = _colour(pixels, config, draws)
    if config.erase:
        pixels = _erase(pixels, config.erase, draws)
    if config.noise:
        strength = _on(pixels, config.noise * draws.uniform(0, 1))
        pixels = (pixels + draws.normal(*pixels.shape[1:]).to(pixels.device) * strength).clamp(0, 1)
    return pixels

"""Batched augmentation of gray or RGB faces with independent random numbers for each picture (paper, section 4.2).

A single grid_sample replaces RandomResizedCrop, flip and rotation, on the device of the pictures. So two cores keep up
with a small network, and an accelerator runs a few dozen kernels per batch of any size without synchronising with the
host. Colours change by the formulas of torchvision's ColorJitter.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import torch
import torch.nn.functional as F

from femae.config.train import AugmentConfig
from femae.training.loader.rng import DrawPurpose, RandomKeys, normals, uniforms

__all__ = ["augment_batch", "draw_uniforms", "make_augment"]

_DRAW_NAMES: Final = tuple(
    "angle zoom stretch flip shift_x shift_y soften sharpen sharpened gamma contrast brightness saturation hue "
    "erase_area erase_aspect erase_x erase_y erased noise".split()
)
_GRAY: Final = (0.2989, 0.587, 0.114)  # torchvision's rgb_to_grayscale
Uniforms = dict[str, torch.Tensor]  # uniform random numbers float[B, 1, 1, 1] in 0..1, by what they decide


def _uniform(number: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Map 0..1 to low..high."""
    return low + (high - low) * number


def _symmetric(number: torch.Tensor, reach: float) -> torch.Tensor:
    """Map 0..1 to -reach..reach."""
    return (2 * number - 1) * reach


def _affine(pixels: torch.Tensor, config: AugmentConfig, uniforms: Uniforms, size: int) -> torch.Tensor:
    flat = {name: number.flatten() for name, number in uniforms.items()}
    angle = _symmetric(flat["angle"], math.radians(config.rotation_deg))
    zoom = torch.exp(_uniform(flat["zoom"], math.log(config.scale_min), math.log(config.scale_max)))
    stretch = torch.exp(_symmetric(flat["stretch"], config.stretch))
    flip = 1 - 2 * (flat["flip"] < config.flip).float()
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    row_x = [flip * cos * stretch, -sin, _symmetric(flat["shift_x"], config.shift)]
    row_y = [flip * sin, cos / stretch, _symmetric(flat["shift_y"], config.shift)]
    theta = torch.stack(row_x + row_y, 1).view(-1, 2, 3)
    grid = F.affine_grid(theta, [len(pixels), pixels.shape[1], size, size], align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)


def _blur(pixels: torch.Tensor, factor: int) -> torch.Tensor:
    size = pixels.shape[-1]
    small = F.interpolate(pixels, size=max(1, size // factor), mode="area")
    return F.interpolate(small, size=size, mode="bilinear", align_corners=False)


def _soften(pixels: torch.Tensor, probability: float, uniform: torch.Tensor) -> torch.Tensor:
    """Reduce the resolution of some pictures to a half or a third, as of small faces in films."""
    softened = pixels
    for number, factor in enumerate((2, 3)):
        chosen = (uniform >= number * probability / 2) & (uniform < (number + 1) * probability / 2)
        if pixels.device.type == "cpu" and not torch.compiler.is_compiling():  # nonzero does not synchronise here
            rows = chosen.flatten().nonzero()[:, 0]
            softened = softened.index_copy(0, rows, _blur(pixels[rows], factor)) if len(rows) else softened
        else:
            softened = torch.where(chosen, _blur(pixels, factor), softened)
    return softened


def _sharpen(pixels: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Add `strength` times the difference from the mean of 3 x 3 pixels (unsharp masking)."""
    mean = F.avg_pool2d(pixels, 3, stride=1, padding=1, count_include_pad=False)
    return (pixels + strength * (pixels - mean)).clamp(0, 1)


def _adjust_light(pixels: torch.Tensor, config: AugmentConfig, uniforms: Uniforms) -> torch.Tensor:
    if config.gamma:
        pixels = torch.exp(pixels.clamp(0.002, 1).log() * torch.exp(_symmetric(uniforms["gamma"], config.gamma)))
    contrast = torch.exp(_symmetric(uniforms["contrast"], config.contrast))
    mean = pixels.mean((1, 2, 3), keepdim=True)
    offset = mean - mean * contrast + _symmetric(uniforms["brightness"], config.brightness)
    return torch.addcmul(offset, pixels, contrast).clamp(0, 1)


def _saturate(pixels: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    red, green, blue = (pixels[:, number : number + 1] * weight for number, weight in enumerate(_GRAY))
    return torch.lerp(red + green + blue, pixels, factor).clamp(0, 1)


def _shift_hue(pixels: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Rotate the hue of each picture by `turns` float[B, 1, 1, 1] of a full circle; HSV value and saturation stay."""
    red, green, blue = pixels.split(1, 1)
    value = pixels.amax(1, keepdim=True)
    chroma = value - pixels.amin(1, keepdim=True)
    scale = 1 / torch.where(chroma > 0, chroma, 1)
    from_green, from_blue = 2 + (blue - red) * scale, 4 + (red - green) * scale
    sixths = torch.where(value == red, (green - blue) * scale, torch.where(value == green, from_green, from_blue))
    sixths = sixths + 6 * turns
    channels = []
    for corner in (5, 3, 1):
        position = torch.remainder(corner + sixths, 6)
        channels.append(value - chroma * torch.minimum(position, 4 - position).clamp(0, 1))
    return torch.cat(channels, 1)


def _erase(pixels: torch.Tensor, probability: float, uniforms: Uniforms) -> torch.Tensor:
    """Cover a random rectangle (2 to 15 % of the area) with the picture's mean."""
    height, width = pixels.shape[-2:]
    area = _uniform(uniforms["erase_area"], 0.02, 0.15)
    aspect = torch.exp(_symmetric(uniforms["erase_aspect"], 0.7))
    y = (torch.arange(height, device=pixels.device) + 0.5)[:, None] / height - uniforms["erase_y"]  # [B, 1, H, 1]
    x = (torch.arange(width, device=pixels.device) + 0.5) / width - uniforms["erase_x"]  # [B, 1, 1, W]
    rows = (y.abs() < (area * aspect).sqrt() / 2) & (uniforms["erased"] < probability)
    box = rows & (x.abs() < (area / aspect).sqrt() / 2)
    return torch.where(box, pixels.mean((1, 2, 3), keepdim=True), pixels)


def draw_uniforms(keys: torch.Tensor) -> Uniforms:
    """The random numbers that decide the augmentation of each picture, from keys i64[B] of RandomKeys."""
    drawn = uniforms(keys, DrawPurpose.AUGMENT, len(_DRAW_NAMES))[:, :, None, None, None]  # [B, D, 1, 1, 1]
    return dict(zip(_DRAW_NAMES, drawn.unbind(1), strict=True))


def _augment(pictures: torch.Tensor, keys: torch.Tensor, config: AugmentConfig, size: int) -> torch.Tensor:
    uniforms = draw_uniforms(keys)
    pixels = _affine(pictures.float() / 255, config, uniforms, size)
    if config.soften:
        pixels = _soften(pixels, config.soften, uniforms["soften"])
    if config.sharpen:
        pixels = _sharpen(pixels, 2 * uniforms["sharpen"] * (uniforms["sharpened"] < config.sharpen))
    pixels = _adjust_light(pixels, config, uniforms)
    if pixels.shape[1] == 3 and config.saturation:
        low = max(0.0, 1 - config.saturation)
        pixels = _saturate(pixels, _uniform(uniforms["saturation"], low, 1 + config.saturation))
    if pixels.shape[1] == 3 and config.hue:
        pixels = _shift_hue(pixels, _symmetric(uniforms["hue"], config.hue))
    if config.erase:
        pixels = _erase(pixels, config.erase, uniforms)
    if config.noise:
        noise = normals(keys, DrawPurpose.NOISE, *pixels.shape[1:])
        pixels = torch.addcmul(pixels, noise, config.noise * uniforms["noise"]).clamp(0, 1)
    return pixels


def augment_batch(pictures: torch.Tensor, config: AugmentConfig, *, draws: RandomKeys, size: int) -> torch.Tensor:
    """u8[B, C, H, W] -> float[B, C, size, size] in 0..1, with random geometry, resolution, colours and erasing."""
    return _augment(pictures, draws.keys, config, size)


def make_augment(
    config: AugmentConfig, *, size: int, compiled: bool
) -> Callable[[torch.Tensor, RandomKeys], torch.Tensor]:
    """augment_batch as a function of pictures and draws; `compiled`: by torch.compile on an accelerator."""
    eager = partial(_augment, config=config, size=size)
    graph: Any = torch.compile(eager, dynamic=False, fullgraph=True) if compiled else eager

    def augment(pictures: torch.Tensor, draws: RandomKeys) -> torch.Tensor:
        # on the CPU, compiled loops are slower here than torch's own kernels
        return (eager if pictures.device.type == "cpu" else graph)(pictures, draws.keys)

    return augment

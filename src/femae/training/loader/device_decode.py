"""JPEG files decoded on the accelerator (nvJPEG, through torchvision), and resized there as Pillow resizes them.

The filters are Pillow's (Lanczos where a picture is reduced, bicubic where it is enlarged), one matrix per axis. Pillow
rounds between the axes, and nvJPEG rounds colours otherwise than libjpeg: on smooth pictures pixels are meant to agree
within 3 of 255 levels (tested where there is an accelerator); the resizing alone agrees within 2.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torchvision.io import ImageReadMode, decode_jpeg

from femae.training.loader.block_reader import decode_upright

__all__ = ["decode_on", "resize_matrix"]

_LUMA: Final = (19595 / 65536, 38470 / 65536, 7471 / 65536)  # ITU-R 601, as Pillow reckons it


def _lanczos(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


def _bicubic(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    x, a = np.abs(x), -0.5
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


@lru_cache(maxsize=64)
def resize_matrix(length: int, size: int, side: float) -> torch.Tensor:
    """float[size, length]: from a line of pixels to `size` over `side` of it about its middle, mirrored beyond."""
    step = side / size
    kernel, reach = (_lanczos, 3 * step) if step > 1 else (_bicubic, 2.0)
    width = max(step, 1.0)
    first, last = math.floor((length - side) / 2 - reach) - 1, math.ceil((length + side) / 2 + reach) + 1
    taps = np.arange(first, last)
    centres = (length - side) / 2 + (np.arange(size) + 0.5) * step
    weights = kernel((taps[None] + 0.5 - centres[:, None]) / width)
    weights /= weights.sum(1, keepdims=True)
    index = taps % (2 * length)
    index = np.minimum(index, 2 * length - 1 - index)
    mirror = np.zeros((len(taps), length))
    mirror[np.arange(len(taps)), index] = 1
    return torch.from_numpy(weights @ mirror).float()


def decode_on(
    pictures: Sequence[tuple[bytes, float]], *, device: torch.device, size: int, channels: int
) -> torch.Tensor:
    """(bytes, stored margin) of each picture -> u8[B, channels, size, size] on the device.

    PNG files, and JPEG files that a tag turns, are decoded by the host. Raises DataError for damaged ones.
    """
    images: list[Any] = [None] * len(pictures)
    jpegs = [n for n, (data, _) in enumerate(pictures) if data[:2] == b"\xff\xd8" and b"Exif" not in data[:4096]]
    encoded = [torch.frombuffer(bytearray(pictures[n][0]), dtype=torch.uint8) for n in jpegs]
    try:
        decoded: Any = decode_jpeg(encoded, mode=ImageReadMode.RGB, device=device) if encoded else []
    except RuntimeError:
        decoded = [torch.from_numpy(decode_upright(pictures[n][0]).copy()) for n in jpegs]  # says what is damaged
    for n, image in zip(jpegs, decoded, strict=True):
        images[n] = image
    groups: dict[tuple[int, int, float], list[int]] = {}
    for n, (data, margin) in enumerate(pictures):
        if images[n] is None:
            images[n] = torch.from_numpy(decode_upright(data).copy())
        groups.setdefault((*images[n].shape[1:], margin), []).append(n)
    out = torch.empty(len(pictures), channels, size, size, dtype=torch.uint8, device=device)
    for (height, width, margin), places in groups.items():
        stack = torch.stack([images[n].to(device).expand(3, -1, -1) for n in places]).float()  # [K, 3, H, W]
        if (height, width) != (size, size) or margin != 1.0:
            side = max(height, width) / margin
            rows, columns = (resize_matrix(length, size, side).to(device) for length in (height, width))
            stack = (rows @ stack @ columns.T).round().clamp(0, 255)
        if channels == 1:
            stack = (stack * stack.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True).round()
        out[torch.tensor(places, device=device)] = stack.to(torch.uint8)
    return out

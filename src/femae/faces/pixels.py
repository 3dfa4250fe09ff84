"""Preparing pictures for networks: reduced (by averaging, so that nothing flickers) or enlarged, cut, brightened.

FFmpeg's scaler does the resizing: fast beside Pillow. Dark pictures become bright enough for networks that have been
trained on well lit ones.
"""

import threading
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["brighten", "brightening", "cut_region", "lift_crop", "resize_rgb"]

_NEUTRAL = 117  # what lies beyond a picture's border: the mean of photographs
_SMALLEST_PX = 16  # below this the scaler's filters do not fit; Pillow's do
_DARK_LEVEL: Final = 150  # below this, of 255, the brightest hundredth of a picture makes it a dark one
_WANTED_LEVEL: Final = 220.0  # to which that hundredth is brought
_LARGEST_GAIN: Final = 14.0
_LEAST_CONTRAST: Final = 8.0  # from the darkest to the brightest hundredth; below, black stays black
_SAMPLES: Final = 64  # in each direction
_per_thread = threading.local()  # a reformatter keeps its tables between calls and must not be shared


def resize_rgb(image: npt.NDArray[np.uint8], *, width: int, height: int) -> npt.NDArray[np.uint8]:
    """u8[H, W, 3] RGB -> u8[height, width, 3] RGB; the picture itself when it has that size already."""
    old_height, old_width = image.shape[:2]
    if (old_width, old_height) == (width, height):
        return image
    if min(old_width, old_height, width, height) < _SMALLEST_PX:
        from PIL import Image

        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    import av
    from av.video.reformatter import Interpolation, VideoReformatter

    reformatter: Any = getattr(_per_thread, "reformatter", None)
    if reformatter is None:
        reformatter = _per_thread.reformatter = VideoReformatter()
    shrinks = width < old_width
    frame = reformatter.reformat(
        av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(image), format="rgb24"),
        width=width,
        height=height,
        interpolation=Interpolation.AREA if shrinks else Interpolation.BILINEAR,
    )
    return np.asarray(frame.to_ndarray(), np.uint8)


def cut_region(image: npt.NDArray[np.uint8], *, left: int, top: int, width: int, height: int) -> npt.NDArray[np.uint8]:
    """The rectangle u8[height, width, 3] of a picture u8[H, W, 3]; what lies beyond the border is neutral gray."""
    right, bottom = left + width, top + height
    inner = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if inner.shape[:2] == (height, width):
        return inner
    region = np.full((height, width, 3), _NEUTRAL, np.uint8)
    y, x = max(-top, 0), max(-left, 0)
    region[y : y + inner.shape[0], x : x + inner.shape[1]] = inner
    return region


def brightening(image: npt.NDArray[np.uint8]) -> float:
    """Factor for the values of a picture u8[H, W, 3]; 1 unless it is dark. Judged by some 64 x 64 of its pixels."""
    steps = (max(1, image.shape[0] // _SAMPLES), max(1, image.shape[1] // _SAMPLES))
    levels = _brightest_channel(image[:: steps[0], :: steps[1]])
    if _is_bright(levels):
        return 1.0
    low, high = (float(level) for level in np.percentile(levels, (1, 99)))
    if high >= _DARK_LEVEL or high - low < _LEAST_CONTRAST:
        return 1.0
    return min(_WANTED_LEVEL / high, _LARGEST_GAIN)


def lift_crop(crop: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A dark face crop u8[S, S, 3] brought to the light that the emotion network has seen; others are left alone.

    The brightest hundredth is brought to where dark begins, so that nothing jumps when a scene passes that level.
    """
    levels = _brightest_channel(crop)
    if _is_bright(levels):
        return crop
    level = float(np.percentile(levels, 99))
    return brighten(crop, factor=min(max(_DARK_LEVEL / max(level, 1.0), 1.0), _LARGEST_GAIN))


def _brightest_channel(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The largest of the three values of each pixel, u8[H, W]; a tenth of the time of max(axis=2)."""
    return np.maximum(np.maximum(image[..., 0], image[..., 1]), image[..., 2])


def _is_bright(levels: npt.NDArray[np.uint8]) -> bool:
    """Whether the brightest hundredth lies above _DARK_LEVEL, told without sorting; False: look closer."""
    rank = int(0.99 * (levels.size - 1))
    return int(np.count_nonzero(levels >= _DARK_LEVEL)) >= levels.size - rank


def brighten(image: npt.NDArray[np.uint8], *, factor: float) -> npt.NDArray[np.uint8]:
    """A picture u8[...] with its values multiplied and cut at 255; the picture itself for a factor of 1."""
    if factor == 1.0:
        return image
    table = np.minimum(np.arange(256) * factor + 0.5, 255).astype(np.uint8)
    return np.asarray(table[image], np.uint8)

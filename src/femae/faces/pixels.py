"""Prepares pictures for networks: resizes, crops and brightens them.

Resizing is done by FFmpeg's scaler, which is faster than Pillow; it averages areas when shrinking, to avoid flicker.
Dark pictures are brightened for networks that were trained on well-lit ones.
"""

import threading
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["brighten", "brighten_crop", "brightening", "cut_region", "resize_rgb"]

_NEUTRAL = 117  # fill value beyond a picture's border: the mean of photographs
_MIN_SCALER_PX = 16  # smallest side for the filters of FFmpeg's scaler; below, Pillow is used
_DARK_LEVEL: Final = 150  # of 255: a picture whose 99th percentile lies below is dark
_TARGET_LEVEL: Final = 220.0  # 99th percentile after brightening
_MAX_GAIN: Final = 14.0
_MIN_CONTRAST: Final = 8.0  # between the 1st and 99th percentile; below, a picture counts as black and is unchanged
_SAMPLES: Final = 64  # in each direction
_per_thread = threading.local()  # a reformatter caches its tables and must not be shared between threads


def resize_rgb(image: npt.NDArray[np.uint8], *, width: int, height: int) -> npt.NDArray[np.uint8]:
    """Resize u8[H, W, 3] RGB to u8[height, width, 3]; returns the picture itself if it has that size already."""
    old_height, old_width = image.shape[:2]
    if (old_width, old_height) == (width, height):
        return image
    if min(old_width, old_height, width, height) < _MIN_SCALER_PX:
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
    """Crop a rectangle u8[height, width, 3] from a picture u8[H, W, 3]; gray beyond the picture's border."""
    right, bottom = left + width, top + height
    inner = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if inner.shape[:2] == (height, width):
        return inner
    region = np.full((height, width, 3), _NEUTRAL, np.uint8)
    y, x = max(-top, 0), max(-left, 0)
    region[y : y + inner.shape[0], x : x + inner.shape[1]] = inner
    return region


def brightening(image: npt.NDArray[np.uint8]) -> float:
    """Gain (1..14) that brightens a picture u8[H, W, 3], from a sample of about 64 x 64 pixels; 1 if it is not dark."""
    steps = (max(1, image.shape[0] // _SAMPLES), max(1, image.shape[1] // _SAMPLES))
    levels = _brightest_channel(image[:: steps[0], :: steps[1]])
    if _is_bright(levels):
        return 1.0
    low, high = (float(level) for level in np.percentile(levels, (1, 99)))
    if high >= _DARK_LEVEL or high - low < _MIN_CONTRAST:
        return 1.0
    return min(_TARGET_LEVEL / high, _MAX_GAIN)


def brighten_crop(crop: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Brighten a dark face crop u8[S, S, 3] to the brightness of the training pictures; returns others unchanged.

    The 99th percentile is raised to exactly the threshold of a dark crop, so that brightness has no jump there.
    """
    levels = _brightest_channel(crop)
    if _is_bright(levels):
        return crop
    level = float(np.percentile(levels, 99))
    return brighten(crop, factor=min(max(_DARK_LEVEL / max(level, 1.0), 1.0), _MAX_GAIN))


def _brightest_channel(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Maximum over the channels, u8[H, W]; ten times as fast as max(axis=2)."""
    return np.maximum(np.maximum(image[..., 0], image[..., 1]), image[..., 2])


def _is_bright(levels: npt.NDArray[np.uint8]) -> bool:
    """Fast sufficient test, without sorting, that the 99th percentile is at least _DARK_LEVEL."""
    rank = int(0.99 * (levels.size - 1))
    return int(np.count_nonzero(levels >= _DARK_LEVEL)) >= levels.size - rank


def brighten(image: npt.NDArray[np.uint8], *, factor: float) -> npt.NDArray[np.uint8]:
    """Multiply the values of a picture u8[...] by `factor`, clipped to 255; returns the picture itself for 1."""
    if factor == 1.0:
        return image
    table = np.minimum(np.arange(256) * factor + 0.5, 255).astype(np.uint8)
    return np.asarray(table[image], np.uint8)

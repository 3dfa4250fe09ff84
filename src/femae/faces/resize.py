"""Pictures made smaller (by averages, so that nothing flickers) or larger, with FFmpeg's scaler: fast beside Pillow."""

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["cut_region", "resize_rgb"]

_NEUTRAL = 117  # what lies beyond a picture's border: the mean of photographs
_SMALLEST_PX = 16  # below this the scaler's filters do not fit; Pillow's do
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

"""Dark pictures made bright enough for networks that have been trained on well lit ones."""

from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["brighten", "brightening", "lift_crop"]

_DARK_LEVEL: Final = 150.0  # below this, of 255, the brightest hundredth of a picture makes it a dark one
_WANTED_LEVEL: Final = 220.0  # to which that hundredth is brought
_LARGEST_GAIN: Final = 14.0
_LEAST_CONTRAST: Final = (
    8.0  # from the darkest to the brightest hundredth; below, nothing is seen and black stays black
)
_SAMPLES: Final = 64  # in each direction


def brightening(image: npt.NDArray[np.uint8]) -> float:
    """Factor for the values of a picture u8[H, W, 3]; 1 unless it is dark. Judged by some 64 x 64 of its pixels."""
    steps = (max(1, image.shape[0] // _SAMPLES), max(1, image.shape[1] // _SAMPLES))
    low, high = (float(level) for level in np.percentile(image[:: steps[0], :: steps[1]].max(axis=2), (1, 99)))
    if high >= _DARK_LEVEL or high - low < _LEAST_CONTRAST:
        return 1.0
    return min(_WANTED_LEVEL / high, _LARGEST_GAIN)


def lift_crop(crop: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A dark face crop u8[S, S, 3] brought to the light that the emotion network has seen; others are left alone.

    The brightest hundredth is brought to where dark begins, so that nothing jumps when a scene passes that level.
    """
    level = float(np.percentile(crop.max(axis=2), 99))
    return brighten(crop, factor=min(max(_DARK_LEVEL / max(level, 1.0), 1.0), _LARGEST_GAIN))


def brighten(image: npt.NDArray[np.uint8], *, factor: float) -> npt.NDArray[np.uint8]:
    """A picture u8[...] with its values multiplied and cut at 255; the picture itself for a factor of 1."""
    if factor == 1.0:
        return image
    table = np.minimum(np.arange(256) * factor + 0.5, 255).astype(np.uint8)
    return np.asarray(table[image], np.uint8)

"""Dark pictures made bright enough for a detector that has been trained on well lit ones."""

from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["brightening", "brighten"]

_DARK_LEVEL: Final = 150.0  # below this, of 255, the brightest hundredth of a picture makes it a dark one
_WANTED_LEVEL: Final = 220.0  # to which that hundredth is brought
_LARGEST_GAIN: Final = 14.0  # black stays black
_SAMPLES: Final = 64  # in each direction


def brightening(image: npt.NDArray[np.uint8]) -> float:
    """Factor for the values of a picture u8[H, W, 3]; 1 unless it is dark. Judged by some 64 x 64 of its pixels."""
    steps = (max(1, image.shape[0] // _SAMPLES), max(1, image.shape[1] // _SAMPLES))
    level = float(np.percentile(image[:: steps[0], :: steps[1]].max(axis=2), 99))
    return min(_WANTED_LEVEL / max(level, 1.0), _LARGEST_GAIN) if level < _DARK_LEVEL else 1.0


def brighten(image: npt.NDArray[np.uint8], *, factor: float) -> npt.NDArray[np.uint8]:
    """A picture u8[...] with its values multiplied and cut at 255; the picture itself for a factor of 1."""
    if factor == 1.0:
        return image
    table = np.minimum(np.arange(256) * factor + 0.5, 255).astype(np.uint8)
    return table[image]

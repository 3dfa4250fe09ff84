"""Converts a decoded frame to RGB as displayed: colours, alpha, rotation and mirroring.

Colours follow the tags of the stream (BT.601, BT.709, BT.2020; limited or full range); an untagged stream is taken for
BT.601, limited range, as FFmpeg does. Transfer curves are not applied: HDR films are not tone-mapped and look flat.
"""

import struct
from fractions import Fraction
from typing import Any, Final

import av
import numpy as np
import numpy.typing as npt
from av.sidedata.sidedata import Type
from av.video.reformatter import ColorRange, VideoReformatter

__all__ = ["RgbConverter", "as_fraction", "orient", "orientation_of"]

# Display matrix [[a, b], [c, d]]: pixel (x, y) is shown at (a x + c y, b x + d y).
Orientation = tuple[int, int, int, int]
_UPRIGHT: Final[Orientation] = (1, 0, 0, 1)
_BY_ROTATION: Final[dict[int, Orientation]] = {  # degrees counter-clockwise
    0: _UPRIGHT,
    90: (0, -1, 1, 0),
    180: (-1, 0, 0, -1),
    270: (0, 1, -1, 0),
}

# Limited-range gray (16..235) to 0..255, which the scaler does not convert.
_EXPAND_GRAY: Final = np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)


class RgbConverter:
    """Converts decoded frames to u8[H, W, 3] RGB; use one per film, since the scaler caches its tables."""

    def __init__(self) -> None:
        self._scaler = VideoReformatter()
        self._has_alpha: dict[str, bool] = {}
        self._last: tuple[int, Orientation] | None = None  # rotation and orientation of the last frame

    def __call__(self, frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
        """The frame as displayed, u8[H, W, 3] RGB; transparent parts are blended over white."""
        name = frame.format.name
        if name not in self._has_alpha:
            self._has_alpha[name] = any(component.is_alpha for component in frame.format.components)
        if self._has_alpha[name]:
            picture = _over_white(np.asarray(self._scaler.reformat(frame, format="rgba", threads=1).to_ndarray()))
        else:
            picture = np.asarray(self._scaler.reformat(frame, format="rgb24", threads=1).to_ndarray(), np.uint8)
        if name.startswith("gray") and frame.color_range == ColorRange.MPEG:
            picture = _EXPAND_GRAY[picture]
        return orient(picture, self._orientation_of(frame))

    def _orientation_of(self, frame: av.VideoFrame) -> Orientation:
        """`orientation_of`, called only when the rotation has changed.

        In PyAV 18, access to a frame's side data creates a reference cycle, which keeps the frame in memory until the
        next garbage collection: a gigabyte for a 4K film.
        """
        if self._last is None or self._last[0] != frame.rotation:
            self._last = (frame.rotation, orientation_of(frame))
        return self._last[1]


def _over_white(rgba: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Blend u8[H, W, 4] over white to u8[H, W, 3]. Alpha that is 0 everywhere (32-bit AVI) is ignored."""
    rgb, alpha = rgba[..., :3], rgba[..., 3:]
    if alpha.min() == 255 or alpha.max() == 0:
        return np.ascontiguousarray(rgb)
    weighted = rgb.astype(np.uint16) * alpha + 255 * (255 - alpha.astype(np.uint16))
    return np.asarray((weighted + 127) // 255, np.uint8)


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """Rotation and mirroring of the frame's display matrix, to the nearest quarter turn."""
    try:
        side_data: Any = frame.side_data
        matrix = side_data[Type.DISPLAYMATRIX]
    except KeyError:
        return _UPRIGHT
    except ValueError:  # the frame has side data of a type unknown to PyAV
        return _BY_ROTATION[round(frame.rotation / 90) * 90 % 360]
    a, b, _, c, d = struct.unpack("9i", bytes(matrix))[:5]
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return (-1 if a < 0 else 1, 0, 0, -1 if d < 0 else 1)
    return (0, -1 if b < 0 else 1, -1 if c < 0 else 1, 0)


def orient(picture: npt.NDArray[np.uint8], orientation: Orientation) -> npt.NDArray[np.uint8]:
    """Rotate and mirror u8[H, W, 3]; returns u8[W, H, 3] for odd quarter turns."""
    if orientation == _UPRIGHT:
        return picture
    a, b, c, d = orientation
    if a == 0:
        picture = picture.transpose(1, 0, 2)  # [W, H, 3]
    flip_x, flip_y = (c if a == 0 else a) < 0, (b if a == 0 else d) < 0
    return np.ascontiguousarray(picture[:: -1 if flip_y else 1, :: -1 if flip_x else 1])


def as_fraction(value: Any) -> Fraction | None:
    """A rational of PyAV (a Fraction or its own type, by version) as a Fraction; None if it is unset or zero."""
    if not value:
        return None
    return Fraction(value.numerator, value.denominator)
